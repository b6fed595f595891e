"""The source of the stub bundle; `python -m tests.federation.stub_source` packs it into the package again.

Its hash is what units allow, and compressed bytes differ between versions of zlib, so the packed file is kept.
"""

from pathlib import Path

from flwr.cli.build import build_fab_from_files

REFUSAL = b'''"""Nothing is here: server and units run the fedseg that they have installed."""

raise ImportError("fedseg runs installed code only; start this node with: fedseg node start DIR")
'''

FILES: dict[str, bytes | Path] = {
    "pyproject.toml": b"""\
[project]
name = "fedseg-stub"
version = "1.0.0"
description = "No logic: server and units run the fedseg that they have installed"
license = { file = "LICENSE" }
requires-python = ">=3.11"
dependencies = ["flwr>=1.41,<1.42"]

[tool.flwr.app]
publisher = "fedseg"
fab-format-version = 1
flwr-version-target = "1.41.0"
fab-include = ["stub/*.py", "LICENSE"]

[tool.flwr.app.components]
serverapp = "stub.app:app"
clientapp = "stub.app:app"

[tool.flwr.app.config]
""",
    "LICENSE": b"Apache-2.0\n",
    "stub/__init__.py": b"",
    "stub/app.py": REFUSAL,
}


if __name__ == "__main__":
    packed, _ = build_fab_from_files(FILES)
    (Path(__file__).parents[2] / "fedseg/federation/flower/stub.fab").write_bytes(packed)
