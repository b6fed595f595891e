"""A unit's inbox: plans that somebody asks for and nobody here has decided about. Files below HOME/inbox/."""

from dataclasses import dataclass
from pathlib import Path

from fedseg.errors import NotApprovedError, PlanError, StorageError
from fedseg.node.home import NodeHome
from fedseg.plan import Plan, parse_plan
from fedseg.privacy.account import PrivacyAccount, require_requester
from fedseg.privacy.signatures import PlanSignature, read_plan_signature, write_plan_signature
from fedseg.private_file import replacing

PLANS_MAX = 100
"""Most plans that may wait: whoever fills the inbox does not fill the disk."""
PREFIX_MIN = 6
"""Fewest digits of a hash that name a plan."""


@dataclass(frozen=True, slots=True)
class WaitingPlan:
    """A plan in the inbox."""

    document: bytes
    plan: Plan
    signature: PlanSignature | None
    """Who asks for it; checked when it came in, and again when it is approved."""
    approving: tuple[str, ...]
    """Officers whose approval counts, under the policy and source settings in force, by name; not enough yet."""
    refused: bool
    """Whether the unit has refused it; it may still be approved."""


class Inbox:
    """The plans that wait at one unit."""

    def __init__(self, home: NodeHome) -> None:
        self._home = home
        self._folder = home.path / "inbox"

    def add(self, document: bytes, signature: PlanSignature | None) -> Plan:
        """Put a plan into the inbox; one that is there already is written anew.

        Raises:
            PlanError: If it is no plan.
            TrustError: If its signature is not right.
            StorageError: If the inbox is full, or cannot be written.
        """
        plan = parse_plan(document)
        if signature is not None:
            require_requester(plan.digest, signature.requester, signature.signature)
        path = self._folder / f"{plan.digest}.toml"
        if not path.exists() and len(self._paths()) >= PLANS_MAX:
            raise StorageError(
                "the inbox is full",
                why=f"{PLANS_MAX} plans wait already",
                fix=f"decide about some of them: fedseg inbox --node {self._home.path}",
            )
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            signed = [] if signature is None else [write_plan_signature(path, signature)]
            self._home.hand_over(self._folder, *signed)
            with replacing(path, self._home.hand_over) as file:
                file.write(document)
        except OSError as error:
            raise StorageError(
                f"the plan was not put into {self._folder}",
                why=error.strerror or "unknown cause",
                fix="free space, or check who may write",
            ) from error
        return plan

    def waiting(self) -> tuple[list[WaitingPlan], list[Path]]:
        """The plans nobody has approved, by name; and the files that are none."""
        with self._home.ledger() as ledger:
            state = PrivacyAccount(ledger).state()
        found: list[WaitingPlan] = []
        damaged: list[Path] = []
        for path in self._paths():
            document = path.read_bytes()
            try:
                plan = parse_plan(document)
            except PlanError:
                damaged.append(path)
                continue
            if plan.digest in state.reservations:
                self.remove(plan.digest)
                continue
            policy_sha256 = "" if state.caps is None else state.caps.policy_sha256
            approving = state.approving(plan.digest, policy_sha256, self._home.source_sha256)
            signature = read_plan_signature(path)
            found.append(WaitingPlan(document, plan, signature, approving, plan.digest in state.refused))
        return sorted(found, key=lambda one: (one.plan.name, one.plan.digest)), damaged

    def find(self, prefix: str) -> WaitingPlan:
        """The waiting plan whose hash begins like this.

        Raises:
            NotApprovedError: If there is none, or more than one.
        """
        fits = [one for one in self.waiting()[0] if len(prefix) >= PREFIX_MIN and one.plan.digest.startswith(prefix)]
        if len(fits) != 1:
            raise NotApprovedError(
                f"no one plan in the inbox begins with {prefix}",
                why=f"{len(fits)} do" if fits else f"an ID is the first {PREFIX_MIN} digits of a plan's hash, or more",
                fix=f"fedseg inbox --node {self._home.path}",
            )
        return fits[0]

    def remove(self, plan_sha256: str) -> None:
        """Take a plan out; nothing happens if it is not there."""
        for suffix in (".toml", ".toml.sig"):
            (self._folder / f"{plan_sha256}{suffix}").unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(self._folder.glob("*.toml"))
