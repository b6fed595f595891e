"""Recompute every claim of a ledger from its signed bytes: charges, totals, caps, outputs, the segmentation itself.

Pure but for reading files. An auditor needs the file and the key it should be signed with, and trusts nobody else. What
no ledger can show, that noise was really drawn and that the gate really ran, stands among the known
limitations.
"""

from collections.abc import Iterable
from pathlib import Path

from fedseg.audit.cross import of_unit
from fedseg.audit.entries import GenesisBody, failed, read_body
from fedseg.audit.facts import LedgerFacts
from fedseg.audit.faults import Fault
from fedseg.audit.log import read_log, verify_log
from fedseg.audit.server_ledger import ServerReplay
from fedseg.audit.unit_ledger import UnitReplay
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.raw import RawLedger
from fedseg.plan import Plan
from fedseg.privacy.noise import SystemNoise
from fedseg.privacy.state import AccountState
from fedseg.segments.segmentation import SignedSegmentation


def verify_ledger(path: Path, public_key: PublicKey | None = None) -> LedgerFacts:
    """Read a ledger file, a unit's or a server's, live or exported, and recompute everything in it.

    Args:
        path: The file; it is only read, and from a copy.
        public_key: A key it should have or have had; None trusts the key the file itself names, and then a ledger
            rewritten as a whole under another key is not found.

    Raises:
        VerificationError: At the first thing that does not check out.
    """
    return verify_raw(read_log(path), public_key)


def verify_raw(raw: RawLedger, public_key: PublicKey | None = None) -> LedgerFacts:
    """`verify_ledger` of a ledger that has been read already."""
    checkpoint = verify_log(raw, public_key)
    genesis = read_body(raw.entries[0], GenesisBody)
    if not genesis.is_named:
        raise failed(Fault.OWNER, "the first entry does not say whose ledger this is")
    if genesis.role == "unit":
        replay = UnitReplay(raw, genesis.unit)
        account, releases = replay.run(), tuple(replay.releases)
        simulated = any(source != SystemNoise.label for source in account.noise_sources)
        published: dict[str, SignedSegmentation] = {}
    else:
        server = ServerReplay(raw)
        server.run()
        account, releases, simulated, published = AccountState(), (), server.simulated, server.published
    return LedgerFacts(
        origin=raw.origin,
        role=genesis.role,
        unit=genesis.unit,
        keys=raw.keys().all,
        size=checkpoint.size,
        root=checkpoint.root,
        account=account,
        releases=releases,
        published=published,
        simulated=simulated,
        raw=raw,
    )


def recompute_segmentation(server: LedgerFacts, plan: Plan) -> SignedSegmentation:
    """The segmentation of a plan in a verified server's ledger: what its logged contributions determine.

    Raises:
        VerificationError: If the plan has not been published.
    """
    if plan.digest not in server.published:
        raise failed(Fault.UNPUBLISHED, "the plan has not been published")
    return server.published[plan.digest]


def check_against_units(server: LedgerFacts, units: Iterable[LedgerFacts], plan: Plan) -> None:
    """Every contribution the server counted stands in its unit's ledger, bit for bit.

    Raises:
        VerificationError: If one does not, or a unit's ledger is signed with another key than the plan's.
    """
    for unit in units:
        for fault, what in of_unit(server, unit, plan):
            raise failed(fault, what)
