"""Stock Flower with its stock settings: TLS, authenticated SuperNodes, a database, one process for each message.

The app is trivial (an 8 by 8 array there and back), so what a round costs is what Flower costs.
"""

import contextlib
import json
import os
import re
import ssl
import time
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.federation.measured import Run
from benchmarks.federation.processes import environment, free_port, run, started, wait_until
from fedseg.deploy.certificates import issue, new_authority, new_node_key

APP = Path(__file__).with_name("stock_app")
HOST = "127.0.0.1"
_MOMENTS = re.compile(r"round from (\d+\.\d+) to (\d+\.\d+)")


@dataclass(frozen=True, slots=True)
class StockFederation:
    """A running SuperLink and its SuperNodes, all online."""

    folder: Path

    def measure(self, rounds: int) -> Run:
        """Run the app once."""
        submitted = time.monotonic()
        printed = self.flwr("run", str(APP), "bench", "--stream", "--run-config", f"num-rounds={rounds}")
        finished = time.monotonic()
        moments = [(float(start), float(end)) for start, end in _MOMENTS.findall(printed)]
        if len(moments) != rounds:
            raise RuntimeError(f"{len(moments)} of {rounds} rounds in what the app printed:\n{printed}")
        # Flower hands the replies of a round over together, so the first one comes with the last.
        return Run(submitted, moments[0][1], tuple(end - start for start, end in moments), finished)

    def flwr(self, *arguments: str) -> str:
        """What Flower's command line prints."""
        return run(["flwr", *arguments], environment(FLWR_HOME=str(self.folder / "cli")))

    def online(self) -> int:
        """How many SuperNodes are online."""
        nodes = json.loads(self.flwr("supernode", "list", "bench", "--format", "json"))["nodes"]
        return sum(node["status"] == "online" for node in nodes)


@contextlib.contextmanager
def stock_federation(folder: Path, nodes: int) -> Generator[StockFederation]:
    """A federation with everything it writes in `folder`; all its processes have ended afterwards."""
    folder.mkdir()
    federation, address = StockFederation(folder), f"{HOST}:{free_port()}"
    _write_certificates(folder)
    _write_connection(folder, address)
    with contextlib.ExitStack() as processes:
        processes.enter_context(started(_superlink(folder, address), _environment(folder, "link"), folder / "link.log"))
        wait_until(lambda: _healthy(folder, address), "a healthy SuperLink")
        for number in range(nodes):
            _write_node_key(folder, number)
            federation.flwr("supernode", "register", str(folder / f"node{number}.pub"), "bench", "--name", f"u{number}")
            command = _supernode(folder, address, number)
            processes.enter_context(
                started(command, _environment(folder, f"node{number}"), folder / f"node{number}.log")
            )
        wait_until(lambda: federation.online() == nodes, f"{nodes} SuperNodes online")
        yield federation


def _superlink(folder: Path, address: str) -> list[str]:
    host, port = address.split(":")
    return [
        "flower-superlink",
        *("--host", host, "--port", port, "--database", str(folder / "link.db")),
        *("--ssl-ca-certfile", str(folder / "ca.crt"), "--ssl-certfile", str(folder / "server.pem")),
        *("--ssl-keyfile", str(folder / "server.key"), "--enable-supernode-auth"),
        "--disable-runtime-dependency-installation",
    ]


def _supernode(folder: Path, address: str, number: int) -> list[str]:
    return [
        "flower-supernode",
        *("--superlink", address, "--root-certificates", str(folder / "ca.crt")),
        *("--auth-supernode-private-key", str(folder / f"node{number}")),
        *("--host", HOST, "--port", str(free_port())),
    ]


def _environment(folder: Path, process: str) -> dict[str, str]:
    """A Flower home of its own for each process, as if each had its own machine."""
    return environment(FLWR_HOME=str(folder / f"{process}.home"))


def _healthy(folder: Path, address: str) -> bool:
    trust = ssl.create_default_context(cafile=folder / "ca.crt")
    try:
        with urllib.request.urlopen(f"https://{address}/health", context=trust, timeout=5) as reply:
            return bool(reply.status == 200)  # noqa: PLR2004
    except OSError:
        return False


def _write_connection(folder: Path, address: str) -> None:
    (folder / "cli").mkdir()
    (folder / "cli" / "config.toml").write_text(
        '[superlink]\ndefault = "bench"\n[superlink.bench]\n'
        f'address = "{address}"\nroot-certificates = "{folder / "ca.crt"}"\n',
        encoding="utf-8",
    )


def _write_certificates(folder: Path) -> None:
    now = datetime.now(UTC)
    authority = new_authority(now)
    server = issue(authority, [HOST], now)
    (folder / "ca.crt").write_bytes(authority.certificate)
    (folder / "server.pem").write_bytes(server.certificate)
    _write_secret(folder / "server.key", server.key)


def _write_node_key(folder: Path, number: int) -> None:
    pair = new_node_key(f"node{number}")
    _write_secret(folder / f"node{number}", pair.private)
    (folder / f"node{number}.pub").write_bytes(pair.public)


def _write_secret(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 (mode at birth)
        file.write(data)
