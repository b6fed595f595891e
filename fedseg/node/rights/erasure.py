"""Erasing people: their rows, their consent, and every trace in the unit's files; with a certificate each.

From the moment a request is noted down its person is not counted in any round that begins later, whatever happens next.
Everything after that may be interrupted and asked for again. Nothing that others see depends on any of it.
"""

import functools
import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import fedseg
from fedseg.certificate import (
    DELETED,
    OVERWRITTEN,
    REWRITTEN,
    SALT_BYTES,
    VACUUMED,
    ErasedStore,
    ErasureFacts,
    ProvenCertificate,
    ToldRecipient,
    commitment,
    drawn_rounds,
    sign_certificate,
)
from fedseg.errors import RightsRequestError, VerificationError
from fedseg.ledger.canonical import Json, canonical, sha256_hex
from fedseg.ledger.proof import prove_inclusion
from fedseg.ledger.reading import RawLedger, read_ledger
from fedseg.node.backup.keys import month_keys
from fedseg.node.home import LOCAL, RIGHTS_FILE, NodeHome
from fedseg.node.rights.identities import destroy_unused
from fedseg.node.rights.leftovers import files_below, find_leftovers
from fedseg.node.rights.register import StoredCertificate
from fedseg.node.rights.requests import Order, begin, fulfil
from fedseg.node.rights.source_erasure import erase_rows, source_files
from fedseg.node.rights.tree import Place
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.notices import Notice
from fedseg.policy.rights import Right, SubjectRequest
from fedseg.privacy.account import PrivacyAccount, day_of
from fedseg.privacy.entries import RightsBatchBody

_PIECE_BYTES: Final = 2**20


def erase(
    home: NodeHome, order: Order, now: datetime, *, ground: str = "17(1)(b)", skip: Collection[Path] = ()
) -> list[SubjectRequest]:
    """Erase everybody named; the same for people of whom the unit never heard.

    Asked again with the same ticket, it goes on where it was interrupted.

    Args:
        home: The unit.
        order: Who.
        now: The moment.
        ground: GDPR Article 17(1), letter; or section 1798.105 of the CCPA.
        skip: Files in which identifiers are to stand, such as the one they were read from.

    Returns:
        Their requests in the order of the identifiers: fulfilled, or in progress while a recipient of their data has
        not acknowledged that it was told.

    Raises:
        RightsRequestError: If a proof of identity is still missing.
        StorageError: If a file cannot be read or written. They are not counted any more, and not all is erased yet.
        VerificationError: If a file of the unit still names one of them.
    """
    requests, subjects = begin(home, order, Right.ERASURE, now), order.subjects(home)
    home.wait_for_rounds()
    erase_rows(home, frozenset(subjects))
    with home.register() as register:
        register.forget_subjects(subjects)
    _require_nothing_left(home, order, skip)
    with home.rights() as rights:
        rights.notices.finish_here([one.id for one in requests], ground)
        answered = rights.notices.answered()
    ended = {one.id: one for one in _certified(home, [one for one in requests if one.id in answered], now, answered)}
    return [ended.get(one.id, one) for one in requests]


def conclude(home: NodeHome, now: datetime) -> None:
    """End the requests of which every recipient has been told, with a certificate for each erasure.

    What came back meanwhile about those who were erased is removed once more.

    Raises:
        StorageError: If a file cannot be read or written.
    """
    with home.rights() as rights:
        answered = rights.notices.answered()
        waiting = [one for one in rights.requests() if one.request.id in answered] if answered else []
    erasures = [one for one in waiting if one.request.right is Right.ERASURE]
    if erasures:
        subjects = frozenset(one.subject for one in erasures if one.subject is not None)
        erase_rows(home, subjects)
        with home.register() as register:
            register.forget_subjects(subjects)
        _certified(home, [one.request for one in erasures], now, answered)
    fulfil(home, [one.request for one in waiting if one.request.right is not Right.ERASURE], now)
    with home.rights() as rights:
        destroy_unused(home, rights.notices)


def remove_returned(home: NodeHome) -> None:
    """Remove once more whatever came back about people who were erased, with a new export or a restored backup.

    Raises:
        DataError, StorageError: If something cannot be read or written.
    """
    with home.rights() as rights:
        erased = frozenset(rights.suppressed().to_pylist())
    erase_rows(home, erased)
    with home.register() as register:
        register.forget_subjects(erased)


def proven_certificate(home: NodeHome, request: str) -> bytes:
    """The file of a request's certificate, with all that shows by when it was made.

    It has the closing statement about backups, too, from the day after none can be read any more.

    Raises:
        RightsRequestError: If the request has none, or the day on which it was completed is not over.
    """
    with home.rights() as rights:
        stored, closed = rights.certificate(request), rights.closing(request)
    if stored is None or stored.place is None:
        raise RightsRequestError(
            f"there is no proven certificate of the request {request} yet",
            why="nothing was erased for it"
            if stored is None
            else "it is bound to the ledger when its day is over, together with all of that day",
            fix="fedseg subject status --node HOME",
        )
    raw = read_ledger(home.path / "ledger.db")
    closing = None if closed is None or closed.place is None else _proven(raw, closed, closed.place)
    return replace(_proven(raw, stored, stored.place), closing=closing).to_bytes()


def _proven(raw: RawLedger, stored: StoredCertificate, place: Place) -> ProvenCertificate:
    """What was certified, with the proof of the day that it was bound to the ledger."""
    seq = next(
        entry.seq
        for entry in raw.entries
        if entry.kind == RightsBatchBody.kind and entry.body["period"] == stored.period
    )
    proof = prove_inclusion(raw, seq).to_text()
    return ProvenCertificate(stored.envelope, stored.salt, place.index, place.path, proof)


def _require_nothing_left(home: NodeHome, order: Order, skip: Collection[Path]) -> None:
    left_out = {path.resolve() for path in (*skip, home.path / LOCAL / RIGHTS_FILE)}
    files = {path.resolve() for path in (*files_below(home.path), *source_files(home))}
    found = find_leftovers(sorted(files - left_out), order.identifiers, order.subjects(home))
    if found:
        raise VerificationError(
            "a file still names somebody who is to be erased",
            why=f"found in {', '.join(str(path) for path in found[:3])}{' and others' if found[3:] else ''}",
            fix="remove it there, then run the same command again; nobody of them is counted meanwhile",
        )


def _certified(
    home: NodeHome, requests: Sequence[SubjectRequest], now: datetime, grounds: Mapping[str, str | None]
) -> list[SubjectRequest]:
    if not requests:
        return []
    today = now.astimezone(UTC).date()
    policy = load_policy(home.policy_document())
    certify = _facts_of_all(home, policy, now)
    with home.rights() as rights:
        notices = rights.notices.notices()
    manifest = _manifest(home)
    ended = [one.fulfil(today) for one in requests]
    certificates = []
    for one in ended:
        facts = certify(
            request_id=one.id,
            regulation=one.regulation.value,
            ground=grounds[one.id] or "",
            recipients=[_told(notice) for notice in notices.get(one.id, ())],
            received=one.received.isoformat(),
            due=one.due.isoformat(),
        )
        envelope, salt = sign_certificate(facts, manifest, home.key), secrets.token_bytes(SALT_BYTES)
        certificates.append(StoredCertificate(one.id, today, envelope, salt, commitment(envelope, salt)))
    kept_until = today + timedelta(days=policy.retention.erasure_evidence_days)
    with home.rights() as rights:
        rights.complete(ended, certificates, evidence_until=kept_until)
    return ended


def _told(notice: Notice) -> ToldRecipient:
    return ToldRecipient(recipient=notice.recipient, status=notice.status.value, day=str(notice.settled))


def _facts_of_all(home: NodeHome, policy: Policy, now: datetime) -> "functools.partial[ErasureFacts]":
    """What is the same in the certificate of everybody."""
    with home.ledger() as ledger:
        size = len(ledger.entries())
        state = PrivacyAccount(ledger).state()
    state.require_day(day_of(now))
    return functools.partial(
        ErasureFacts,
        unit=home.settings.unit,
        controller=policy.controller,
        completed=day_of(now),
        policy_sha256=policy.digest if state.caps is None else state.caps.policy_sha256,
        software=f"fedseg {fedseg.__version__}",
        ledger_size=size,
        stores=_stores(home),
        drawn=drawn_rounds(state),
        rho=state.rho_spent,
        delta=policy.budget.delta,
    )


def _stores(home: NodeHome) -> list[ErasedStore]:
    """What was done where, for everybody alike."""
    ends = [one.unreadable_after for one in month_keys(home)]
    return [
        ErasedStore(store="customers", method=DELETED if home.settings.source.in_database else REWRITTEN),
        ErasedStore(store="consent", method=OVERWRITTEN if home.register_file.exists() else VACUUMED),
        ErasedStore(store="backups", method=f"encrypted, unreadable after {max(ends)}" if ends else "none are kept"),
    ]


def _manifest(home: NodeHome) -> str:
    """Hash over the stores as they are now."""
    stores = {"customers": source_files(home), "consent": [home.register_file]}
    hashes: dict[str, Json] = {}
    for name, paths in stores.items():
        found = [path for path in paths if path.exists()]
        if found:
            digest = hashlib.sha256()
            for path in found:
                with path.open("rb") as file:
                    while piece := file.read(_PIECE_BYTES):
                        digest.update(piece)
            hashes[name] = digest.hexdigest()
    return sha256_hex(canonical(hashes))
