"""Evidence for a report: bundles and folders become one bundle, whose ledgers are verified and held together."""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedseg.audit.archive import Member, Role, unpack
from fedseg.audit.bundle import collect, read_evidence
from fedseg.audit.faults import Fault
from fedseg.audit.witnesses import server_witnesses
from fedseg.errors import FedsegError, PlanError, SettingsError
from fedseg.ledger.canonical import sha256_hex
from fedseg.plan import Plan, parse_plan
from fedseg.policy.document import Policy, load_policy
from fedseg.report.model import FailureFact
from fedseg.report.officer.ledgers import Task, known_plans, read_all
from fedseg.report.officer.records import ServerRecord, UnitRecord


@functools.lru_cache(maxsize=256)
def policy_of(document: bytes) -> Policy:
    """A policy that a verified ledger logs; units often have the same."""
    return load_policy(document)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the ledgers of a bundle say."""

    units: tuple[UnitRecord, ...]
    """By name."""
    server: ServerRecord | None
    plans: Mapping[str, Plan]
    """Every plan that a ledger here logs, by hash."""
    failures: tuple[FailureFact, ...]


def gather(sources: Sequence[Path]) -> tuple[Member, ...]:
    """The members of bundles and folders together.

    Raises:
        SettingsError: If two of them hold different files of one name.
        VerificationError: If a bundle is not one.
        StorageError: If a file cannot be read.
    """
    found: dict[str, Member] = {}
    for source in sources:
        members = collect(source) if source.is_dir() else unpack(read_evidence(source))
        for one in members:
            if found.setdefault(one.name, one).data != one.data:
                raise SettingsError(
                    f"two different files are called {one.name}",
                    why="a report is about one copy of each ledger, and about one federation",
                    fix="hold the copies against each other with fedseg audit verify, and name the newest alone",
                )
    return tuple(sorted(found.values(), key=lambda one: one.name))


def verify(members: Sequence[Member], keys: Mapping[str, str], seen: Mapping[str, tuple[int, str]]) -> Evidence:
    """What the members say, each ledger by itself and then all held together.

    Args:
        members: Of a bundle.
        keys: Keys that somebody vouches for, by unit, `server` or origin.
        seen: Size and root of each log at the last sign-off, by origin.
    """
    notes: dict[str, list[bytes]] = {}
    for one in members:
        if one.role is Role.COSIGNED:
            notes.setdefault(one.owner, []).append(one.data)
    tasks = [Task(one.name, one.data, keys, seen, notes) for one in members if one.role is Role.LEDGER]
    # Before the ledgers, and so before other processes are begun: a plan that lies here and in ledgers is read once.
    beside = {one.name: _plan_of(one) for one in members if one.role is Role.PLAN}
    found = read_all(tasks)
    units = tuple(sorted((one for one in found if isinstance(one, UnitRecord)), key=lambda one: one.log.name))
    servers = [one for one in found if isinstance(one, ServerRecord)]
    failures = [one for one in found if isinstance(one, FailureFact)]
    if not tasks:
        failures.append(_failure("the bundle", Fault.EMPTY, "there is no ledger in it"))
    failures += _twice([one.log.origin for one in units] + [one.log.origin for one in servers])
    server = _witnessed(servers[0], units) if servers else None
    plans = {digest: parse_plan(document) for digest, document in dict(known_plans(units, server)).items()}
    if server is not None:
        failures += _against_units(server, units, plans)
    if not failures:  # of a ledger that fails, nobody can tell what it logs
        failures += [failure for name, plan in beside.items() for failure in _of_plan(name, plan, plans)]
        results = None if server is None else frozenset(one.sha256 for one in server.published.values())
        failures += [failure for one in members for failure in _of_file(one, units, results)]
        failures += _strays(members, {one.log.origin for one in units} | {one.log.origin for one in servers})
    return Evidence(units, server, plans, tuple(failures))


def _witnessed(server: ServerRecord, units: Sequence[UnitRecord]) -> ServerRecord:
    """The same, with what those have seen of it whom the units name as their witnesses."""
    seen = server_witnesses(server.log.size, server.beside, [one.log.witnesses for one in units])
    return replace(server, log=replace(server.log, witnesses=seen))


def _twice(origins: Sequence[str]) -> Iterator[FailureFact]:
    for origin in sorted({one for one in origins if origins.count(one) > 1}):
        yield _failure("the bundle", Fault.KEY, f"there are two ledgers of {origin}")


def _against_units(
    server: ServerRecord, units: Sequence[UnitRecord], plans: Mapping[str, Plan]
) -> Iterator[FailureFact]:
    """Every contribution that the server logged stands in its unit's ledger, bit for bit, under the plan's key."""
    for unit in units:
        where, name = f"{server.log.where} against {unit.log.where}", unit.log.name
        charged = {(one.plan_sha256, one.step): (one.release_id, one.sha256) for one in unit.releases}
        named = {digest: plan.unit_index(name) for digest, plan in plans.items() if digest in server.plans}
        for digest, index in named.items():
            if index is not None and plans[digest].units[index].public_key not in unit.log.keys:
                yield _failure(where, Fault.PLAN_KEY, f"the ledger of {name} is not signed with the key the plan names")
                break
        for (plan, sender, step), sent in server.counted.items():
            if sender != name or charged.get((plan, step)) == sent:
                continue
            fault = Fault.OTHER_BYTES if (plan, step) in charged else Fault.UNCHARGED
            yield _failure(
                where, fault, f"the server counted a release of round {step + 1} that is not in the ledger of {name}"
            )
            break


def _plan_of(member: Member) -> Plan | FailureFact:
    try:
        return parse_plan(member.data)
    except PlanError as error:
        return _failure(member.name, Fault.STRAY, f"it is not a plan: {error.why}")


def _of_plan(name: str, plan: Plan | FailureFact, logged: Mapping[str, Plan]) -> Iterator[FailureFact]:
    """A plan beside the ledgers is one that they log."""
    if isinstance(plan, FailureFact):
        yield plan
    elif plan.digest not in logged:
        yield _failure(name, Fault.STRAY, "no ledger here logs this plan")


def _of_file(member: Member, units: Sequence[UnitRecord], results: frozenset[str] | None) -> Iterator[FailureFact]:
    """So is a policy, and a result, of which the server's ledger logs those of these hashes."""
    if member.role is Role.POLICY:
        yield from _of_policy(member, units)
    if member.role is Role.SEGMENTATION and results is not None and sha256_hex(member.data) not in results:
        yield _failure(member.name, Fault.SEGMENTS, "it is no result that the server's ledger logs")


def _strays(members: Sequence[Member], origins: Collection[str]) -> Iterator[FailureFact]:
    """What can only be of a ledger lies beside one."""
    for one in members:
        if one.role in {Role.POLICY, Role.COSIGNED} and one.owner not in origins:
            yield _failure(one.name, Fault.STRAY, f"no ledger of {one.owner} is here that checks out")


def _of_policy(member: Member, units: Sequence[UnitRecord]) -> Iterator[FailureFact]:
    policies = next((one.policies for one in units if one.log.origin == member.owner), ())
    try:
        digest = load_policy(member.data).digest
    except FedsegError as error:
        yield _failure(member.name, Fault.UNLOGGED, f"it is not a policy: {error.why}")
        return
    if policies and policies[-1].sha256 != digest:
        yield _failure(
            member.name, Fault.UNLOGGED, f"the policy is not the one in force in the ledger of {member.owner}"
        )


def _failure(where: str, fault: Fault, what: str) -> FailureFact:
    return FailureFact(where, fault.code, what)
