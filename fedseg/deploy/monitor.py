"""What a machine's monitoring may ask of a server or node: is it alive, is it ready, and a few numbers for Prometheus.

A process of its own, on 127.0.0.1 alone, as the user that speaks to the network anyway. It has no part in the
deployment: it reads /proc, one file or one answer of the proxy, and starts, stops and opens nothing. Nothing it says
depends on a customer: no counts of rows, requests or erasures, no sizes of files, nothing of a ledger.
"""

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import fedseg
from fedseg.deploy.certificates import valid_until
from fedseg.deploy.directory import read_small
from fedseg.deploy.preflight import ask_health
from fedseg.deploy.settings import FILE, NodeDeployment, NodeTerms, ServerDeployment, ServerTerms
from fedseg.deploy.users import Account, caller, confined, python
from fedseg.errors import CertificateError, DeploymentError, NotStartedError, UnreachableError

HOST: Final = "127.0.0.1"
PORT: Final = 9464
"""Unless told otherwise."""
CONNECTIONS_MAX: Final = 32

PROC: Final = Path("/proc")
_START_TIME: Final = 19
"""Place of a process's start in /proc/PID/stat after its name; field 22 in proc_pid_stat(5)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How a deployment is now."""

    supervised: bool
    """Whether its supervisor runs."""
    started: Mapping[str, float | None]
    """When each of its processes started, in Unix time; None for one that does not run."""
    reachable: bool
    """Of a node, whether the server has let its network process in; of a server, whether it answers as nodes ask."""
    certificate_until: float | None
    """When the server's certificate ends, in Unix time; None for a node, or if it cannot be read."""

    @property
    def ready(self) -> bool:
        """Whether it could do its part of a round now, as far as can be seen from beside."""
        return self.supervised and self.reachable and None not in self.started.values()


def load(path: Path) -> NodeDeployment | ServerDeployment:
    """The server or node in this directory, whoever owns it: nothing is started from what its file says.

    Raises:
        DeploymentError: If it is neither.
    """
    path = path.resolve()
    try:
        values = tomllib.loads((path / FILE).read_text(encoding="utf-8"))
        if values.get("role") == "server":
            return ServerDeployment(path, ServerTerms.model_validate(values))
        return NodeDeployment(path, NodeTerms.model_validate(values))
    except (OSError, ValueError) as error:
        raise DeploymentError(
            f"{path} cannot be watched",
            why=f"its {FILE} is missing, closed to {caller().name}, or not one of a server or node",
            fix="name the directory that was made by fedseg node init or fedseg server init",
        ) from error


def watcher(deployment: NodeDeployment | ServerDeployment) -> Account:
    """The user that watches: the one that speaks to the network already."""
    return deployment.proxy_account if isinstance(deployment, ServerDeployment) else deployment.network_account


def command(deployment: NodeDeployment | ServerDeployment, port: int | None) -> list[str]:
    """The command that watches, or without a port looks once, for the caller to become; root becomes the watcher first.

    Raises:
        DeploymentError: If the caller is neither root nor the watcher, and so could not see enough.
    """
    who = watcher(deployment)
    if os.geteuid() not in {0, who.uid}:
        raise DeploymentError(
            f"{caller().name} cannot watch {deployment.path}",
            why=f"what tells how it is belongs to {who.name}",
            fix=f"run the same command as root, or as {who.name}",
        )
    options = () if port is None else ("--port", port)
    return [*confined(who), *python("fedseg.deploy.monitor", deployment.path, *options)]


def look(deployment: NodeDeployment | ServerDeployment) -> Seen:
    """Look once, without waiting for anything but, at a server, its answer."""
    found = {name: _find(words) for name, words in _words(deployment).items()}
    supervisor = _find(("supervisor.supervisord", str(deployment.supervisor / "supervisord.conf")))
    return Seen(
        supervised=supervisor is not None,
        started={name: None if pid is None else _started(pid) for name, pid in found.items()},
        reachable=(
            _answers(deployment)
            if isinstance(deployment, ServerDeployment)
            else _is_let_in(deployment, found["network"])
        ),
        certificate_until=_certificate_until(deployment) if isinstance(deployment, ServerDeployment) else None,
    )


def _words(deployment: NodeDeployment | ServerDeployment) -> dict[str, tuple[str, ...]]:
    """By which words of its command line each process is known."""
    if isinstance(deployment, ServerDeployment):
        return {
            "link": ("fedseg.federation.link", str(deployment.database)),
            "coordinator": ("fedseg.federation.coordinator", str(deployment.home)),
            "proxy": ("nginx:", str(deployment.proxy / "nginx.conf")),
        }
    return {
        "network": ("fedseg.federation.network", str(deployment.state)),
        "data": ("fedseg.federation.runner", str(deployment.home)),
    }


def _find(words: tuple[str, ...]) -> int | None:
    """The process whose command line has all these words."""
    for one in PROC.glob("[0-9]*"):
        try:
            said = (one / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ").split()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if set(words) <= set(said) and int(one.name) != os.getpid():
            return int(one.name)
    return None


def _started(pid: int) -> float | None:
    """When a process started, in Unix time; None if it has ended."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = next(line for line in (PROC / "stat").read_text(encoding="ascii").splitlines() if line[:6] == "btime ")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(boot.split()[1]) + int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")


def _is_let_in(deployment: NodeDeployment, network: int | None) -> bool:
    try:
        said = json.loads(read_small(deployment.state))
        return network is not None and said["state"] == "connected" and said["pid"] == network
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _answers(deployment: ServerDeployment) -> bool:
    try:
        # To connect to 0.0.0.0 or :: is to connect to this machine.
        ask_health(deployment.listen, deployment.terms.hosts[0], deployment.certificate)
    except (UnreachableError, CertificateError):
        return False
    return True


def _certificate_until(deployment: ServerDeployment) -> float | None:
    try:
        return valid_until(read_small(deployment.proxy / "server.pem")).timestamp()
    except (OSError, ValueError):
        return None


def metrics(deployment: NodeDeployment | ServerDeployment, seen: Seen) -> bytes:
    """What was seen, in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    role = {"role": deployment.terms.role, "version": fedseg.__version__}
    Gauge("fedseg_info", "Version and role.", list(role), registry=registry).labels(**role).set(1)
    Gauge("fedseg_supervised", "Whether the supervisor runs.", registry=registry).set(seen.supervised)
    Gauge("fedseg_ready", "Whether it could do its part of a round.", registry=registry).set(seen.ready)
    what = "Whether the server has let the node in, or the server answers as nodes ask."
    Gauge("fedseg_reachable", what, registry=registry).set(seen.reachable)
    up = Gauge("fedseg_process_up", "Whether the process runs.", ["process"], registry=registry)
    since = Gauge("fedseg_process_start_time_seconds", "When it started.", ["process"], registry=registry)
    for name, started in seen.started.items():
        up.labels(name).set(started is not None)
        if started is not None:
            since.labels(name).set(started)
    if seen.certificate_until is not None:
        until = Gauge("fedseg_certificate_end_time_seconds", "When the certificate ends.", registry=registry)
        until.set(seen.certificate_until)
    return generate_latest(registry)


def application(deployment: NodeDeployment | ServerDeployment) -> Starlette:
    """The three pages. A name that is not this machine's own is refused, so that no web page can ask by a trick."""

    def alive(_: Request) -> Response:
        supervised = look(deployment).supervised
        return JSONResponse({"alive": supervised}, 200 if supervised else 503)

    def ready(_: Request) -> Response:
        seen = look(deployment)
        processes = {name: started is not None for name, started in seen.started.items()}
        said = {"ready": seen.ready, "reachable": seen.reachable, "processes": processes}
        return JSONResponse(said, 200 if seen.ready else 503)

    def numbers(_: Request) -> Response:
        return Response(metrics(deployment, look(deployment)), media_type=CONTENT_TYPE_LATEST)

    pages = {"/healthz": alive, "/readyz": ready, "/metrics": numbers}
    return Starlette(
        routes=[Route(path, page, methods=["GET"]) for path, page in pages.items()],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


def _say_once(seen: Seen) -> int:
    """Print whether it is ready, and what is missing; the exit code."""
    missing = [name for name, started in seen.started.items() if started is None]
    what = ["no supervisor"] * (not seen.supervised) + [f"no {name}" for name in missing]
    what += ["not connected" if "network" in seen.started else "no answer"] * (not seen.reachable)
    print("ready" if seen.ready else f"not ready: {', '.join(what)}")  # noqa: T201 (what this process is for)
    return 0 if seen.ready else NotStartedError.exit_code


def main() -> None:
    """Look once, or serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, help="To answer on; without it, look once.")
    options = parser.parse_args()
    deployment = load(options.directory)
    if options.port is None:
        sys.exit(_say_once(look(deployment)))
    uvicorn.run(
        application(deployment),
        host=HOST,
        port=options.port,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
    )


if __name__ == "__main__":
    main()
