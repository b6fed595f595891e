"""The bundle that Flower wants for every run, and its hash."""

import hashlib
from importlib import resources


def stub_bundle() -> bytes:
    """The bundle that Flower wants for every run. It holds no logic, and importing its one module fails."""
    return resources.files("fedseg.federation.flower").joinpath("stub.fab").read_bytes()


def stub_sha256() -> str:
    """What a unit's allow-list holds unless it says otherwise."""
    return hashlib.sha256(stub_bundle()).hexdigest()
