"""What stands between a node and its first plan, looked at before it starts; each thing with its cure.

Nothing is changed, and nothing that depends on a row is sent: the server is asked for its health, by the network user,
before any customer is read, and what reads customers has no network. Exact counts are for the unit's own eyes and
stand apart, as LOCAL. `python -m fedseg.deploy.checks HOME` is the part that reads them.
"""

import enum
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, TypeAdapter, ValidationError

from fedseg.deploy.joining import known_server, require_joined
from fedseg.deploy.node import require_private
from fedseg.deploy.preflight import check_server
from fedseg.deploy.settings import NodeDeployment
from fedseg.deploy.users import confined, environment, python, require_isolation, require_ready
from fedseg.errors import (
    CertificateError,
    ClockError,
    CohortTooSmallError,
    ConsentError,
    DeploymentError,
    FedsegError,
    StorageError,
    UnreachableError,
    error_class,
)
from fedseg.federation.runner import withhold_exception_texts
from fedseg.node.approvals import require_cohort
from fedseg.node.gate import decide_now
from fedseg.node.home import NodeHome
from fedseg.node.inbox import Inbox
from fedseg.node.integrity import require_integrity
from fedseg.node.rights.handed_over import policy_in_force
from fedseg.node.source import inspect_source, open_source
from fedseg.plan import Plan, parse_plan
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.gate import Reason, tally

DISK_BYTES_LEAST: Final = 100 * 1024**2
"""With less the ledger could run full during a plan."""
DISK_BYTES_WANTED: Final = 1024**3


class State(enum.StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    name: str
    state: State
    says: str
    fix: str = ""
    """What to do; empty where all is well."""
    error: FedsegError | None = None
    """What a failure is, as any other command would say it."""
    local: Mapping[str, int] = field(default_factory=dict[str, int])
    """LOCAL: exact counts."""


def check_node(deployment: NodeDeployment, plan: bytes | None) -> Iterator[Finding]:
    """Look at everything, the server first; what reads customers runs as the data user, without a network.

    Args:
        deployment: The node.
        plan: A plan that its data are to serve; without one, the plans in the inbox.
    """
    users = _users(deployment)
    yield users
    yield from _server(deployment)
    yield _looked("disk", lambda: _disk(deployment))
    if users.state is not State.FAIL:
        yield from _as_the_data_user(deployment, plan)


def check_home(home: NodeHome, plan: Plan | None, *, now: datetime) -> Iterator[Finding]:
    """Look at a unit's home, customers included.

    Args:
        home: The unit's.
        plan: A plan that its data are to serve; without one, the plans in the inbox.
        now: When.
    """
    yield _looked("ledger", lambda: _ledger(home))
    yield _looked("rights list", lambda: _rights(home))
    policy = _policy(home)
    yield policy
    if policy.state is State.FAIL:
        return
    data = _looked("data", lambda: _data(home))
    yield data
    if data.state is State.FAIL:
        return
    if home.settings.source.format == "postgresql":
        yield _looked("database role", lambda: _role(home))
    plans = [plan] if plan is not None else [one.plan for one in Inbox(home).waiting()[0]]
    yield from _features(home, plans)
    yield from _cohorts(home, load_policy(home.policy_document()), plans, now)


def _as_the_data_user(deployment: NodeDeployment, plan: bytes | None) -> Iterator[Finding]:
    """`check_home` in a process that has what the data process has, and no more."""
    done = subprocess.run(  # noqa: S603 (a list of our own words, no shell)
        [*confined(deployment.data_account, network=False), *python("fedseg.deploy.checks", deployment.home)],
        cwd="/",
        env=environment(Path("/nonexistent")),
        input=plan or b"",
        capture_output=True,
        check=False,
    )
    try:
        said = _SAID.validate_json(done.stdout)
    except ValidationError as error:
        raise DeploymentError(
            f"{deployment.data_account.name} cannot look at the unit's home",
            why=f"the attempt ended with {done.returncode}; its words are withheld, for they could hold a value",
            fix=f"look at the owner and the modes of {deployment.home}",
        ) from error
    for one in said:
        raised = None if one.error is None else _raised(**one.error)
        yield Finding(one.name, one.state, one.says, one.fix, raised, one.local)


def _raised(code: str, what: str, why: str, fix: str) -> FedsegError:
    return (error_class(code) or FedsegError)(what, why=why, fix=fix)


class _Said(BaseModel):
    """A finding on its way between two processes."""

    name: str
    state: State
    says: str
    fix: str
    error: dict[str, str] | None
    local: dict[str, int]

    @classmethod
    def of(cls, one: Finding) -> Self:
        error = one.error
        facts = None if error is None else {"code": error.code, "what": error.what, "why": error.why, "fix": error.fix}
        return cls(name=one.name, state=one.state, says=one.says, fix=one.fix, error=facts, local=dict(one.local))


_SAID = TypeAdapter(list[_Said])


def _looked(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except FedsegError as error:
        return Finding(name, State.FAIL, f"{error.what}: {error.why}", error.fix, error)


def _users(deployment: NodeDeployment) -> Finding:
    def look() -> Finding:
        network, data = deployment.network_account, deployment.data_account
        for who in {network, data}:
            require_ready(who, deployment.path)
        require_isolation(data, "data")
        require_private(deployment)
        if deployment.single_user:
            says = f"{data.name} runs both processes: a break-in at one reaches the other"
            return Finding("users", State.WARN, says, "for real customers, make the node with two system users")
        return Finding("users", State.OK, f"{network.name} cannot read the customers, {data.name} has no network")

    return _looked("users", look)


def _server(deployment: NodeDeployment) -> Iterator[Finding]:
    """Network, TLS and clock, as far as one can be seen without the one before it."""
    where = deployment.terms.server
    try:
        require_joined(deployment)
    except FedsegError as error:
        yield Finding("joined", State.FAIL, f"{error.what}: {error.why}", error.fix, error)
        return
    told = known_server(deployment)
    yield Finding("joined", State.OK, "with the ca.crt given" if told is None else f"server {told}")
    names, failed = ["network", "tls", "clock"], {UnreachableError: 0, CertificateError: 1, ClockError: 2}
    says = [f"{where} answers", "TLS 1.3, by the authority of the answer", "agrees with the server's"]
    try:
        check_server(deployment.network_account, where, deployment.authority)
        good = len(names)
    except (UnreachableError, CertificateError, ClockError) as error:
        good = failed[type(error)]
        yield from (Finding(names[at], State.OK, says[at]) for at in range(good))
        yield Finding(names[good], State.FAIL, f"{error.what}: {error.why}", error.fix, error)
        return
    yield from (Finding(name, State.OK, said) for name, said in zip(names, says, strict=True))


def _disk(deployment: NodeDeployment) -> Finding:
    free = shutil.disk_usage(deployment.home).free
    says = f"{free / 1024**3:.1f} GiB free"
    if free < DISK_BYTES_LEAST:
        raise StorageError("the disk is nearly full", why=says, fix=f"free space on the disk of {deployment.home}")
    if free < DISK_BYTES_WANTED:
        return Finding("disk", State.WARN, says, f"free space on the disk of {deployment.home}")
    return Finding("disk", State.OK, says)


def _ledger(home: NodeHome) -> Finding:
    require_integrity(home)
    return Finding("ledger", State.OK, "every entry and signature checks out")


def _rights(home: NodeHome) -> Finding:
    with home.rights() as rights:
        rights.suppressed()
    return Finding("rights list", State.OK, "who was erased stays uncounted")


def _policy(home: NodeHome) -> Finding:
    def look() -> Finding:
        policy = policy_in_force(home)
        says = f"{policy.id}, hash {policy.digest[:16]}"
        if policy.approvals is None:
            fix = "name officers in it: docs/how-to/decide-as-an-officer.md"
            return Finding("policy", State.WARN, f"{says}; no officer signs for plans", fix)
        return Finding("policy", State.OK, f"{says}; {policy.approvals.required} officers sign for plans")

    return _looked("policy", look)


def _data(home: NodeHome) -> Finding:
    open_source(home, ())
    return Finding("data", State.OK, f"{home.settings.source.format}, with the customers' column")


def _role(home: NodeHome) -> Finding:
    from fedseg.node.sources.postgres import PostgresTable  # noqa: PLC0415 (an extra)

    source = home.settings.source
    PostgresTable(source.path, source.table or "").require_unwritable()
    return Finding("database role", State.OK, "reads the customers and can change none: writing was tried, and refused")


def _features(home: NodeHome, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Whether the columns that plans read are there, and within the plans' bounds."""
    if not plans:
        fix = "fedseg node check DIR --plan PLAN.toml, once you have a plan"
        yield Finding("bounds", State.WARN, "no plan is here that would say which columns it reads", fix)
    for plan in plans:
        try:
            found = inspect_source(home, plan.encoders)
        except FedsegError as error:
            yield Finding(f"schema of {plan.name}", State.FAIL, f"{error.what}: {error.why}", error.fix, error)
            continue
        yield Finding(
            f"schema of {plan.name}",
            State.OK,
            "every column is there, of its type",
            local={"rows": found.rows, "customers": found.customers, "lines_left_out": found.left_out},
        )
        beyond = {name: count for name, count in found.outside.items() if count}
        if beyond:
            says = f"values of {', '.join(beyond)} that the plan does not foresee are clamped"
            fix = "if they are many, ask the coordinator for other bounds before you approve"
            yield Finding(f"bounds of {plan.name}", State.WARN, says, fix, local=beyond)
        else:
            yield Finding(f"bounds of {plan.name}", State.OK, "every value is within the plan's")


def _cohorts(home: NodeHome, policy: Policy, plans: Sequence[Plan], now: datetime) -> Iterator[Finding]:
    """Whether enough customers may be counted: for the plans' purposes, or else for one of the policy's at least."""
    wanted = [str(plan.purpose) for plan in plans if plan.purpose in policy.purposes]
    asked = list(dict.fromkeys(wanted)) or [str(one) for one in policy.purposes]
    found = [_looked("cohort", partial(_cohort, home, policy, purpose, now)) for purpose in asked]
    enough = not wanted and any(one.state is State.OK for one in found)
    for one in found:
        name = "consent" if isinstance(one.error, ConsentError) else "cohort"
        if enough and isinstance(one.error, (ConsentError, CohortTooSmallError)):
            yield Finding(name, State.WARN, one.says, one.fix)
        else:
            yield Finding(name, one.state, one.says, one.fix, one.error, one.local)


def _cohort(home: NodeHome, policy: Policy, purpose: str, now: datetime) -> Finding:
    with home.register() as register:
        decisions = decide_now(home, register, policy, purpose, now)
    reasons = tally(open_source(home, ()), decisions)
    least = policy.rule(purpose).min_cohort
    try:
        require_cohort(reasons[Reason.ALLOWED], least)
    except FedsegError as error:
        return Finding("cohort", State.FAIL, f"{purpose}: {error.what}", error.fix, error)
    counts = {reason.name.lower(): count for reason, count in reasons.items() if count}
    return Finding("cohort", State.OK, f"{purpose}: at least {least} may be counted", local=counts)


def main() -> None:
    """Print what is found in a home, as JSON; a plan may come on standard input."""
    document = sys.stdin.buffer.read()
    home, plan = NodeHome.open(Path(sys.argv[1])), parse_plan(document) if document else None
    found = [_Said.of(one) for one in check_home(home, plan, now=datetime.now(UTC))]
    sys.stdout.buffer.write(_SAID.dump_json(found))


if __name__ == "__main__":
    withhold_exception_texts()
    main()
