"""A server: its directory made, its three processes started, stopped and looked at, its nodes let in."""

import ipaddress
import os
import socket
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fedseg.deploy import certificates, proxy
from fedseg.deploy.admission import identity
from fedseg.deploy.directory import give, make, new_directory, read_small, write_new
from fedseg.deploy.logs import LogMark
from fedseg.deploy.preflight import ask_health
from fedseg.deploy.processes import Program, Supervisor, Tell
from fedseg.deploy.settings import (
    FILE,
    Address,
    ServerDeployment,
    ServerTerms,
    parse_address,
    terms_of,
    write_terms,
)
from fedseg.deploy.users import Account, caller, confined, is_low, program, python, require_isolation, require_ready
from fedseg.errors import (
    CertificateError,
    DeploymentError,
    NotStartedError,
    UnreachableError,
)
from fedseg.federation.flower.link import Link, NodeInfo
from fedseg.privacy.entries import ApprovalRules
from fedseg.server.home import ServerHome
from fedseg.server.jobs import JobStore
from fedseg.server.roster import Roster

COORDINATOR_STARTED: Final = "coordinator.started"
"""What the coordinator logs once its home has checked out."""
PROCESSES: Final = ("link", "coordinator", proxy.NAME)
"""Names of a server's processes, and of their logs."""


def init(
    path: Path, *, hosts: Sequence[str], listen: str, server: Account, proxy_user: Account, rules: ApprovalRules
) -> ServerDeployment:
    """Make a server's directory: its home with new key and empty ledger, its authority and certificate, room to run.

    `rules` say who lets units in, as `rules_of` makes them.

    Raises:
        SettingsError: If a value cannot be one.
        DeploymentError: If users, port or directory cannot serve. Whatever is raised, nothing is left behind.
    """
    path = path.absolute()
    program("nginx")
    terms = terms_of(
        ServerTerms,
        {
            "role": "server",
            "server_key": "",
            "hosts": hosts,
            "listen": listen,
            "server_user": server.name,
            "proxy_user": proxy_user.name,
        },
    )
    _require_port(parse_address(listen).port)
    with new_directory(path) as part:
        for who in {server, proxy_user}:
            require_ready(who, path.parent)
        require_isolation(server, "link")
        home = ServerHome.create(part / "server")
        Roster.create(home.roster_file, home.key, rules, now=datetime.now(UTC))
        give(part / "server", server)
        make(part / "jobs", server)
        make(part / "run", server, 0o2750, group=proxy_user.gid)
        make(part / "logs", caller(), 0o755)
        make(part / "supervisor", caller())
        _certify(part, terms.hosts, proxy_user)
        write_terms(part, terms.model_copy(update={"server_key": home.key.public.to_text()}), caller())
    return ServerDeployment.open(path)


def _certify(part: Path, hosts: Sequence[str], proxy_user: Account) -> None:
    """The authority, the certificate it issues to the proxy, and how much the proxy lets through before any plan."""
    me, now = caller(), datetime.now(UTC)
    authority = certificates.new_authority(now)
    issued = certificates.issue(authority, hosts, now)
    make(part / "ca", me)
    write_new(part / "ca" / "ca.key", authority.key, me)
    write_new(part / "ca.crt", authority.certificate, me, 0o644)
    make(part / "proxy", proxy_user)
    write_new(part / "proxy" / "server.pem", proxy.certificate_pem(issued), proxy_user)
    write_new(part / "proxy" / "limits.conf", proxy.limits_conf(proxy.IDLE_BODY_BYTES), proxy_user)


def _require_port(port: int) -> None:
    if is_low(port) and caller().uid != 0:
        raise DeploymentError(
            f"{caller().name} cannot listen on port {port}",
            why="low ports take root, who hands that one right to the proxy user",
            fix="--listen 0.0.0.0:8443, or run as root with two system users",
        )


def _require_free(deployment: ServerDeployment) -> None:
    """Nobody listens where the proxy is to; nginx itself looks for that only when it is started."""
    address = deployment.listen
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server(address, family=family).close()
    except OSError as error:
        raise DeploymentError(
            f"the proxy cannot listen on {deployment.terms.listen}",
            why=os.strerror(error.errno) if error.errno else type(error).__name__,
            fix=f"free the port, or set another address under listen in {deployment.path / FILE}",
        ) from error


def supervisor(deployment: ServerDeployment) -> Supervisor:
    """The server's supervisor."""
    return Supervisor(deployment.supervisor, deployment.logs)


def start(
    deployment: ServerDeployment, *, timeout: float, foreground: bool, tell: Tell
) -> "subprocess.Popen[bytes] | None":
    """Start the server and wait until it answers nodes and operator; if it does not, everything is stopped again.

    Returns:
        The supervisor's process, for `Supervisor.attend`, in the foreground; None otherwise.

    Raises:
        DeploymentError: If users, programs or port are not as they must be.
        NotStartedError: If the server is not well within `timeout` seconds.
    """
    for who in {deployment.server_account, deployment.proxy_account}:
        require_ready(who, deployment.path)
    require_isolation(deployment.server_account, "link")
    _require_port(deployment.listen.port)
    _end_leftovers(deployment)
    _require_free(deployment)
    proxy.write_configuration(deployment)
    mark, watched = LogMark.now(deployment.logs), supervisor(deployment)
    with watched.starting(_programs(deployment), foreground=foreground, tell=tell) as child:
        missing = watched.wait_well(lambda: _missing(deployment, watched, mark), mark, timeout=timeout, tell=tell)
        if missing is not None:
            raise NotStartedError(
                "the server did not start, and has been stopped again",
                why=f"{missing}; {mark.codes(_logs(deployment))}",
                fix=f"see the files in {deployment.logs}",
            )
    return child


def stop(deployment: ServerDeployment, tell: Tell) -> bool:
    """Stop the server, and whatever a killed supervisor of it has left; False if it did not run.

    Raises:
        UnreachableError: If its processes do not end.
    """
    ran = supervisor(deployment).stop(tell)
    _end_leftovers(deployment)
    return ran


def facts(deployment: ServerDeployment) -> dict[str, Any]:
    """What is known of a server, running or not."""
    states = supervisor(deployment).states()
    nodes = _nodes(deployment) if states else None
    roster = ServerHome.open(deployment.home).roster().state()
    return {
        "directory": str(deployment.path),
        "server_key": deployment.terms.server_key,
        "fingerprint": identity(deployment),
        "officers": sorted(roster.rules.rules.officers),
        "single_operator": roster.single_operator,
        "units": sorted(roster.members),
        "listen": deployment.terms.listen,
        "hosts": list(deployment.terms.hosts),
        "witnesses": dict(deployment.terms.witnesses),
        "single_user": deployment.single_user,
        "certificate_until": certificates.valid_until(_certificate(deployment)).isoformat(),
        "running": bool(states),
        "processes": [
            {
                "name": one.name,
                "state": one.state,
                "pid": one.pid,
                "since": one.since,
                "user": _user(one.name, deployment),
            }
            for one in states
        ],
        "nodes": None if nodes is None else [_node_facts(one) for one in nodes],
        "jobs": [
            {"id": job.id, "state": str(job.state), "step": job.step, "rounds": job.rounds}
            for job in JobStore.open(deployment.jobs).jobs()
        ],
    }


def _nodes(deployment: ServerDeployment) -> list[NodeInfo] | None:
    """The registered nodes; None if the link does not answer, which its process state explains."""
    try:
        with Link(deployment.socket) as link:
            return link.nodes()
    except UnreachableError:
        return None


def _node_facts(one: NodeInfo) -> dict[str, Any]:
    return {"unit": one.unit, "node_id": one.node_id, "online": one.online, "last_seen": one.last_seen}


def _user(process: str, deployment: ServerDeployment) -> str:
    return deployment.terms.proxy_user if process == proxy.NAME else deployment.terms.server_user


def _certificate(deployment: ServerDeployment) -> bytes:
    return read_small(deployment.proxy / "server.pem")


def _programs(deployment: ServerDeployment) -> list[Program]:
    """In reverse this is the order to stop in: nobody gets in, nothing is asked any more, then the link ends."""
    link = python("fedseg.federation.link", "--database", deployment.database, "--socket", deployment.socket)
    coordinator = python(
        "fedseg.federation.coordinator",
        *("--home", deployment.home),
        *("--jobs", deployment.jobs),
        *("--socket", deployment.socket),
        *("--witnesses", deployment.witness_socket),
        *(word for name in deployment.terms.witnesses for word in ("--witness", name)),
    )
    alone = confined(deployment.server_account, network=False)
    return [
        Program("link", alone, link, deployment.home, priority=10, start_seconds=3),
        Program("coordinator", alone, coordinator, deployment.home, priority=20, start_seconds=5),
        Program(
            proxy.NAME,
            proxy.before(deployment),
            proxy.command(deployment),
            deployment.proxy,
            priority=30,
            start_seconds=4,  # it tries for 2.5 s to listen where someone else does
            stop_signal="QUIT",  # nginx answers what it has begun
        ),
    ]


def _end_leftovers(deployment: ServerDeployment) -> None:
    supervisor(deployment).end_leftovers(_programs(deployment))
    proxy.end_workers(deployment)


def _missing(deployment: ServerDeployment, watched: Supervisor, mark: LogMark) -> str | None:
    """What the server still lacks to be well, in words."""
    states = watched.states()
    if not states:
        return "the supervisor"
    try:
        with Link(deployment.socket) as link:
            link.nodes()
        ask_health(_own_address(deployment.listen), deployment.terms.hosts[0], deployment.certificate)
    except (UnreachableError, CertificateError) as error:
        return f"an answer: {error.what} ({error.why})"
    if COORDINATOR_STARTED not in mark.since(deployment.logs / "coordinator.log"):  # it looks at its ledger first
        return "the coordinator to open the server's ledger"
    waiting = [one for one in states if not one.is_running]
    return f"the process {waiting[0].name} to stay up (it is {waiting[0].state})" if waiting else None


def _logs(deployment: ServerDeployment) -> list[Path]:
    return [deployment.logs / f"{name}.log" for name in PROCESSES]


def _own_address(listen: Address) -> Address:
    """Where this machine reaches what listens on `listen`: all addresses include the loopback."""
    address = ipaddress.ip_address(listen.host)
    if not address.is_unspecified:
        return listen
    return Address("127.0.0.1" if isinstance(address, ipaddress.IPv4Address) else "::1", listen.port)
