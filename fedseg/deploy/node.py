"""A node of a unit: its directory made, its two processes started, stopped and looked at."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from fedseg.deploy.certificates import fingerprint, new_node_key, require_authority
from fedseg.deploy.directory import give, make, new_directory, read_small, write_new
from fedseg.deploy.joining import known_server, require_joined, tell_unit
from fedseg.deploy.logs import LogMark
from fedseg.deploy.preflight import check_server
from fedseg.deploy.processes import ProcessState, Program, Supervisor, Tell
from fedseg.deploy.settings import NodeDeployment, NodeTerms, terms_of, write_terms
from fedseg.deploy.users import (
    Account,
    caller,
    confined,
    python,
    readable,
    require_isolation,
    require_ready,
)
from fedseg.errors import DeploymentError, FedsegError, NotAdmittedError, NotStartedError
from fedseg.node.home import NodeHome, NodeSettings
from fedseg.node.source import open_source
from fedseg.node.sources.choice import stored_files
from fedseg.node.sources.settings import SourceSettings
from fedseg.policy.document import load_policy

RUNNER_STARTED: Final = "runner.starting"
"""What the data process logs once the unit's home has checked out."""
PROCESSES: Final = ("network", "data")
"""Names of a node's processes, and of their logs."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What `fedseg node init` is asked to make."""

    unit: str
    server: str
    """HOST:PORT."""
    ca: Path | None
    """The server's ca.crt, if it came by a safe way already; else it comes with the server's answer."""
    policy: Path
    source: SourceSettings
    """Its path is absolute."""
    network: Account
    data: Account
    rehearsal_seed: int | None


@dataclass(frozen=True, slots=True)
class Connection:
    """Whether the server has let the live network process in."""

    connected: bool
    node_id: int | None
    since: str | None


def init(path: Path, plan: NodePlan) -> NodeDeployment:
    """Make a node's directory: the unit's home with new keys and an empty ledger, the node's key, and room to run.

    Raises:
        SettingsError: If a value cannot be one.
        DeploymentError: If users, directory or data cannot serve. Whatever is raised, nothing is left behind.
        PolicyDocumentError: If the policy cannot be used.
        CertificateError: If the CA file is not an authority's certificate.
        DataError: If the data cannot be read as said.
    """
    path = path.absolute()
    policy, ca = plan.policy.read_bytes(), None if plan.ca is None else plan.ca.read_bytes()
    load_policy(policy)
    if ca is not None:
        require_authority(ca)
    terms = terms_of(
        NodeTerms,
        {
            "role": "node",
            "unit": plan.unit,
            "unit_key": "",
            "server": plan.server,
            "network_user": plan.network.name,
            "data_user": plan.data.name,
            "rehearsal_seed": plan.rehearsal_seed,
        },
    )
    with new_directory(path) as part:
        for who in {plan.network, plan.data}:
            require_ready(who, path.parent)
        require_isolation(plan.data, "data")
        _require_private(stored_files(part, plan.source), plan.network, plan.data)
        home = NodeHome.create(
            part / "unit", NodeSettings(version=1, unit=plan.unit, source=plan.source), policy=policy
        )
        open_source(home, ())
        give(part / "unit", plan.data)
        _make_room(part, plan.network, plan.data, ca, plan.unit)
        write_terms(part, terms.model_copy(update={"unit_key": home.key.public.to_text()}), caller())
    return NodeDeployment.open(path)


def _make_room(part: Path, network: Account, data: Account, ca: bytes | None, unit: str) -> None:
    """All of a node's directory but the unit's home."""
    me, key = caller(), new_node_key(unit)
    make(part / "network", network)
    write_new(part / "network" / "node.key", key.private, network)
    if ca is not None:
        write_new(part / "network" / "ca.crt", ca, network, 0o644)
    write_new(part / "node.pub", key.public, me, 0o644)
    make(part / "run", network, 0o2750, group=data.gid)
    make(part / "logs", me, 0o755)
    make(part / "supervisor", me)


def _require_private(files: Sequence[Path], network: Account, data: Account) -> None:
    """The data process can read the customers' files, and what speaks to the network none of them."""
    closed = sorted(set(files) - set(readable(data, files)))
    if closed:
        raise DeploymentError(
            f"the user {data.name} cannot read {closed[0]}",
            why="the file or a directory above it is closed to that user, or it is not there",
            fix=f"chown {data.name} {closed[0]} && chmod 600 {closed[0]}",
        )
    open_ = [] if network == data else readable(network, files)
    if open_:
        raise DeploymentError(
            f"the user {network.name} can read {open_[0]}",
            why="the process that speaks to the network must not be able to read customers",
            fix=f"chown {data.name} {open_[0]} && chmod 600 {open_[0]}",
        )


def require_private(deployment: NodeDeployment) -> None:
    """Check that the data process can read the customers, and the network process cannot.

    Raises:
        DeploymentError: If that is not so.
    """
    home = NodeHome.open(deployment.home)
    _require_private(stored_files(home.path, home.settings.source), deployment.network_account, deployment.data_account)


def supervisor(deployment: NodeDeployment) -> Supervisor:
    """The node's supervisor."""
    return Supervisor(deployment.supervisor, deployment.logs)


def start(
    deployment: NodeDeployment, *, timeout: float, foreground: bool, tell: Tell
) -> "subprocess.Popen[bytes] | None":
    """Start the node and wait until the server has let it in; if it does not, everything is stopped again.

    Returns:
        The supervisor's process, for `Supervisor.attend`, in the foreground; None otherwise.

    Raises:
        EnrolmentError: If the node has not joined.
        DeploymentError: If users, programs or data are not as they must be.
        UnreachableError, CertificateError, ClockError: If the server is not what it should be.
        NotAdmittedError: If the server does not let the node in.
        NotStartedError: If the node is not well within `timeout` seconds.
    """
    require_joined(deployment)
    tell_unit(deployment)
    network, data = deployment.network_account, deployment.data_account
    for who in {network, data}:
        require_ready(who, deployment.path)
    require_isolation(data, "data")
    require_private(deployment)
    tell(f"asking {deployment.terms.server} as {network.name} (at most 30 s)")
    check_server(network, deployment.terms.server, deployment.authority)
    watched, programs = supervisor(deployment), _programs(deployment)
    watched.end_leftovers(programs)
    mark = LogMark.now(deployment.logs)
    with watched.starting(programs, foreground=foreground, tell=tell) as child:
        missing = watched.wait_well(lambda: _missing(deployment, watched, mark), mark, timeout=timeout, tell=tell)
        if missing is not None:
            logs = [deployment.logs / f"{name}.log" for name in PROCESSES]
            raise NotStartedError(
                "the node did not start, and has been stopped again",
                why=f"{missing}; {mark.codes(logs)}",
                fix=f"fedseg node logs {deployment.path}",
            )
    return child


def stop(deployment: NodeDeployment, tell: Tell) -> bool:
    """Stop the node, and whatever a killed supervisor of it has left; False if it did not run.

    Raises:
        UnreachableError: If its processes do not end.
    """
    watched = supervisor(deployment)
    ran = watched.stop(tell)
    watched.end_leftovers(_programs(deployment))
    return ran


def connection(deployment: NodeDeployment) -> Connection:
    """What the live network process says of its connection; what an earlier one has said counts for nothing."""
    try:
        said = json.loads(read_small(deployment.state))
        state, node_id, pid = said["state"], int(said["node_id"] or 0), said["pid"]
        since = datetime.fromisoformat(said["since"]).isoformat()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Connection(connected=False, node_id=None, since=None)
    if state != "connected" or pid != supervisor(deployment).pid("network"):
        return Connection(connected=False, node_id=None, since=None)
    return Connection(connected=True, node_id=node_id, since=since)


def facts(deployment: NodeDeployment) -> dict[str, Any]:
    """What is known of a node, running or not."""
    states = supervisor(deployment).states()
    now = connection(deployment)
    return {
        "directory": str(deployment.path),
        "unit": deployment.terms.unit,
        "unit_key": _unit_key(deployment),
        "node_key": fingerprint(deployment.public_key.read_bytes()),
        "server": deployment.terms.server,
        "server_fingerprint": known_server(deployment),
        "single_user": deployment.single_user,
        "noise": deployment.noise,
        "running": bool(states),
        "connected": now.connected,
        "node_id": now.node_id,
        "since": now.since,
        "processes": [_process_facts(one, deployment) for one in states],
    }


def _unit_key(deployment: NodeDeployment) -> str:
    """The key that the unit has now; where it cannot be read, the one that it began with."""
    try:
        return NodeHome.open(deployment.home).key.public.to_text()
    except FedsegError:
        return deployment.terms.unit_key


def _process_facts(one: ProcessState, deployment: NodeDeployment) -> dict[str, Any]:
    users = {"network": deployment.terms.network_user, "data": deployment.terms.data_user}
    return {"name": one.name, "state": one.state, "pid": one.pid, "since": one.since, "user": users.get(one.name)}


def _programs(deployment: NodeDeployment) -> list[Program]:
    """The data process first, so that it is the last to stop: the network process signs off at the server before."""
    seed = deployment.terms.rehearsal_seed
    runner = python(
        "fedseg.federation.runner",
        *("--home", deployment.home),
        *("--socket", deployment.socket),
        *(() if seed is None else ("--simulated-noise-seed", seed)),
    )
    network = python(
        "fedseg.federation.network",
        *("--server", deployment.terms.server),
        *("--ca", deployment.authority),
        *("--key", deployment.network / "node.key"),
        *("--socket", deployment.socket),
        *("--state", deployment.state),
    )
    as_data = confined(deployment.data_account, network=False)
    return [
        Program("data", as_data, runner, deployment.home, priority=10, start_seconds=5),
        Program(
            "network",
            confined(deployment.network_account),
            network,
            deployment.network,
            priority=20,
            start_seconds=10,  # what the server refuses ends within that time, and is then tried less and less often
        ),
    ]


def _missing(deployment: NodeDeployment, watched: Supervisor, mark: LogMark) -> str | None:
    """What the node still lacks to be well, in words."""
    if ("network", NotAdmittedError.exit_code) in watched.exits(mark):
        raise NotAdmittedError(
            f"{deployment.terms.server} does not let this node in",
            why="it does not know the node's key, or a killed process of this node still counts as connected",
            fix=(
                f"fedseg node request {deployment.path}, and send the file to the server's operator, for: "
                "fedseg server approve DIR REQUEST; after a kill, wait a minute and start the node again"
            ),
        )
    states = {one.name: one for one in watched.states()}
    if not states:
        return "the supervisor"
    if not connection(deployment).connected:
        return f"the server to let the node in (process network is {states['network'].state})"
    if RUNNER_STARTED not in mark.since(deployment.logs / "data.log"):  # it looks at the unit's home first
        return "the data process to open the unit's home"
    if not states["data"].is_running:
        return f"the data process to stay up (it is {states['data'].state})"
    return None
