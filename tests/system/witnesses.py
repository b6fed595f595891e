"""Units of a whole deployment that are each other's witnesses, beside an auditor at an address."""

import subprocess
import tomllib
from collections.abc import Generator
from contextlib import contextmanager, suppress

import tomli_w

from tests.small_federation import policy_document
from tests.system.deployment import FEDSEG, Federation, Node, told

AUDITOR = "auditor.example/w1"


def make_witness(node: Node) -> str:
    """The unit's key as a witness."""
    place = node.home / "LOCAL" / "witness"
    with suppress(AssertionError):  # it has one already
        told(node.machine, "witness", "init", place, "--name", f"fedseg/witness/{node.unit}", user=node.data)
    key: str = told(node.machine, "witness", "show", place, user=node.data)["verifier_key"]
    return key


@contextmanager
def auditing(federation: Federation) -> Generator[str]:
    """Somebody witnesses the units' logs at an address that the server's operator has named; gives the key."""
    place, server = federation.path / "auditor", federation.server
    key: str = told(server.machine, "witness", "init", place, "--name", AUDITOR)["verifier_key"]
    logs = [node.facts().raw.verifier_key.to_text() for node in federation.nodes.values()]
    told(server.machine, "witness", "enrol", place, *logs)
    file = server.path / "deployment.toml"
    before = file.read_bytes()
    terms = tomllib.loads(before.decode()) | {"witnesses": {AUDITOR: "http://127.0.0.1:8466"}}
    file.write_bytes(tomli_w.dumps(terms).encode())
    server.fedseg("stop")
    server.fedseg("start")
    service = subprocess.Popen(server.machine.does([FEDSEG, "witness", "start", str(place), "--port", "8466"]))
    try:
        yield key
    finally:
        service.terminate()
        service.wait(timeout=30)
        file.write_bytes(before)


@contextmanager
def witnessing(federation: Federation, quorum: int) -> Generator[None]:
    """The units ask for the word of so many of both others and an auditor, and witness the server."""
    with auditing(federation) as auditor:
        keys = {unit: make_witness(node) for unit, node in federation.nodes.items()} | {"auditor": auditor}
        fingerprint = federation.server.fedseg("status")["fingerprint"]
        for unit, node in federation.nodes.items():
            answer = federation.server.path / "answers" / f"{unit}.json"
            node.fedseg("check", "--answer", answer, "--fingerprint", fingerprint)
            others = "".join(f"    {name}: {key}\n" for name, key in keys.items() if name != unit)
            stated = f"witnesses:\n  quorum: {quorum}\n  keys:\n{others}"
            (node.home / "policy.yaml").write_bytes(policy_document() + stated.encode())
        yield
    for node in federation.nodes.values():
        (node.home / "policy.yaml").write_bytes(policy_document())
