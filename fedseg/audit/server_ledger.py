"""Recomputing a server's ledger: every round and publication follows from the contributions before it."""

from fedseg.audit.entries import (
    ContributionBody,
    PlanBody,
    PublicationBody,
    RoundBody,
    ServerKeyChangeBody,
    checking,
    failed,
    read_body,
)
from fedseg.audit.faults import Fault
from fedseg.ledger.entries import KEY_CHANGE, Entry
from fedseg.ledger.reading import RawLedger
from fedseg.plan import Plan, parse_plan
from fedseg.privacy.noise import SystemNoise
from fedseg.segments.segmentation import SignedSegmentation, parse_signed
from fedseg.server.contribution import parse_contribution
from fedseg.server.rounds import RunState, accept, close_as_logged, finished, start_run


class ServerReplay:
    """A server's ledger, replayed and checked entry by entry."""

    def __init__(self, raw: RawLedger) -> None:
        self.raw = raw
        self._keys = raw.keys()
        self.runs: dict[str, RunState] = {}
        """Where each plan stands, by hash."""
        self.published: dict[str, SignedSegmentation] = {}

    def run(self) -> None:
        """Check every entry in order.

        Raises:
            VerificationError: At the first entry that does not follow.
        """
        checks = {
            "plan": self._check_plan,
            "contribution": self._check_contribution,
            "round": self._check_round,
            "publication": self._check_publication,
            KEY_CHANGE: self._check_key_change,
        }
        for entry in self.raw.entries[1:]:
            if entry.kind not in checks:
                raise failed(Fault.KIND, f"entry {entry.seq} is of a kind no server writes")
            with checking(entry, Fault.FIELDS):
                checks[entry.kind](entry)

    @property
    def simulated(self) -> bool:
        """Whether any counted noise was simulated."""
        return any(run.noise != SystemNoise.label for run in self.runs.values())

    def _check_plan(self, entry: Entry) -> None:
        body = read_body(entry, PlanBody)
        with checking(entry, Fault.SERVER_PLAN):
            plan: Plan = parse_plan(self.raw.payloads[body.payload.id])
        if plan.digest != body.plan_sha256 or body.payload.id != f"plan:{plan.digest}" or plan.digest in self.runs:
            raise failed(Fault.SERVER_PLAN, f"plan {entry.seq} is not the plan it says, or is there twice")
        self.runs[plan.digest] = start_run(plan)

    def _check_contribution(self, entry: Entry) -> None:
        body = read_body(entry, ContributionBody)
        with checking(entry, Fault.CONTRIBUTION):
            run = self.runs[body.plan_sha256]
        with checking(entry, Fault.RELEASE):
            found = parse_contribution(self.raw.payloads[body.payload.id], run.plan)
        stated = (body.unit, body.step, body.release_id, body.request_sha256, body.payload.id)
        wanted = (found.unit, found.step, found.release_id, found.request_sha256, f"contribution:{found.release_id}")
        if stated != wanted:
            raise failed(Fault.SENT, f"contribution {entry.seq} does not say what its bytes say")
        with checking(entry, Fault.CONTRIBUTION):
            self.runs[body.plan_sha256] = accept(run, found)

    def _check_round(self, entry: Entry) -> None:
        body = read_body(entry, RoundBody)
        if body.units != sorted(set(body.units)):
            raise failed(Fault.ROUND, f"round {entry.seq} names its units twice or out of order")
        with checking(entry, Fault.ROUND):
            self.runs[body.plan_sha256] = close_as_logged(self.runs[body.plan_sha256], entry)

    def _check_publication(self, entry: Entry) -> None:
        body = read_body(entry, PublicationBody)
        with checking(entry, Fault.PUBLICATION):
            signed = parse_signed(self.raw.payloads[body.payload.id])
        if signed.public_key != self._keys.at_entry(entry.seq):
            raise failed(Fault.PUBLICATION, "the segmentation is signed with another key than the server's ledger")
        if body.payload.id != f"segmentation:{body.plan_sha256}" or tuple(body.units) != signed.segmentation.units:
            raise failed(Fault.PUBLICATION, f"publication {entry.seq} does not say what its segmentation says")
        with checking(entry, Fault.PUBLICATION):
            wanted = finished(self.runs[body.plan_sha256])
        if wanted != signed.segmentation:
            raise failed(Fault.SEGMENTS, "the published segments are not those that the logged contributions give")
        self.published[body.plan_sha256] = signed

    def _check_key_change(self, entry: Entry) -> None:
        # That the two keys have signed it, `check_log` has found.
        read_body(entry, ServerKeyChangeBody)
