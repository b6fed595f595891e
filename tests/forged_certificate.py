"""Certificates of erasure, true ones and such as only the unit's own key could forge."""

import atexit
import functools
import os
import shutil
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from fedseg.certificate import (
    SALT_BYTES,
    ClosingFacts,
    ErasureFacts,
    commitment,
    open_certificate,
    sign_certificate,
    sign_closing,
)
from fedseg.node.contribute import contribute
from fedseg.node.home import NodeHome
from fedseg.node.rights.batch import log_days
from fedseg.node.rights.erasure import erase, proven_certificate
from fedseg.node.rights.register import OpenRequest, StoredCertificate
from fedseg.node.rights.requests import Order
from fedseg.plan import Plan
from fedseg.policy.rights import Regulation, Right, SubjectRequest
from fedseg.privacy.noise import SimulatedNoise
from tests.small_federation import NOW, make_federation, some_request

ERASED = NOW + timedelta(days=1)
AFTER = NOW + timedelta(days=2)


def answered(home: NodeHome, plan: Plan) -> NodeHome:
    """A unit that has approved this plan, after it has answered all its rounds."""
    for step in range(plan.rounds):
        request = some_request(plan, step)
        contribute(home, plan.digest, request, f"{step:064x}", now=NOW, source=SimulatedNoise(step))
    return home


@functools.cache
def unit_with_rounds() -> NodeHome:
    """A unit that has answered all rounds of a plan, the day before anybody is erased; to be copied."""
    path = Path(tempfile.mkdtemp(prefix="fedseg-certified-"))
    atexit.register(shutil.rmtree, path)
    found = make_federation(path / "federation", {"north": 60, "south": 50}).approve_all()
    return answered(found.home("north"), found.plan)


def copied(home: NodeHome, path: Path) -> NodeHome:
    """The unit once more, to be changed."""
    return NodeHome.open(Path(shutil.copytree(home.path, path)))


def true_certificate(home: NodeHome) -> bytes:
    """Erase a customer of the unit; the certificate, when the day is over."""
    (request,) = erase(home, Order([b"north-7"], "T-1"), ERASED)
    log_days(home, AFTER)
    return proven_certificate(home, request.id)


def forged_certificate(home: NodeHome, **changes: Any) -> bytes:
    """A certificate that differs from a true one in these facts, signed and logged all the same."""
    (request,) = erase(home, Order([b"north-7"], "T-1"), ERASED)
    with home.rights() as rights:
        stored = rights.certificate(request.id)
        assert stored is not None
        facts = open_certificate(stored.envelope, home.key.public)
        id_ = changes.get("request_id", os.urandom(16).hex())
        forged = ErasureFacts.model_validate_json(
            facts.model_copy(update={**changes, "request_id": id_}).model_dump_json()
        )
        envelope, salt = sign_certificate(forged, "0" * 64, home.key), os.urandom(SALT_BYTES)
        begun = SubjectRequest(id_, Right.ERASURE, Regulation.GDPR, ERASED.date()).start()
        if id_ != request.id:
            rights.add([OpenRequest(begun, "T-2", bytes(16))])
            rights.complete(
                [begun.fulfil(ERASED.date())],
                [StoredCertificate(id_, ERASED.date(), envelope, salt, commitment(envelope, salt))],
                evidence_until=date(2030, 1, 1),
            )
    log_days(home, AFTER)
    return proven_certificate(home, id_)


def closed_certificate(home: NodeHome) -> bytes:
    """A true certificate of a unit without backups, with a statement that closes them, signed and logged."""
    (request,) = erase(home, Order([b"north-7"], "T-1"), ERASED)
    day = ERASED.date()
    with home.rights() as rights:
        (stored,) = rights.not_closed()
        said = ClosingFacts(request_id=request.id, unit="north", closed=day.isoformat(), software="fedseg 1")
        envelope, salt = sign_closing(said, stored.envelope, home.key), os.urandom(SALT_BYTES)
        rights.close_backups([StoredCertificate(request.id, day, envelope, salt, commitment(envelope, salt))])
    log_days(home, AFTER)
    return proven_certificate(home, request.id)
