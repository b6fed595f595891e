"""The proxy in front of the link: nginx, which ends TLS and lets nothing through but what a node needs.

The link serves three interfaces on one socket, and two of them (start a run, register a node) ask nobody who they are.
What may pass is therefore listed, path by path; what is not listed does not exist.

It is the only process of a server that has a network. So it also brings what is for witnesses with an address there, on
a socket of its own and to the addresses in deployment.toml alone. Their certificates are not checked: all that goes and
comes is public and signed.
"""

import contextlib
import ipaddress
import signal
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Final

from jinja2 import Environment, StrictUndefined

from fedseg.deploy.certificates import Issued
from fedseg.deploy.directory import make, read_small, replace
from fedseg.deploy.processes import Supervisor, end_process
from fedseg.deploy.settings import ServerDeployment
from fedseg.deploy.users import confined, is_low, program, run_as
from fedseg.errors import DeploymentError
from fedseg.federation.flower.messages import largest_body_bytes
from fedseg.ledger.witness import REQUEST_LIMIT_BYTES
from fedseg.plan import Plan

NAME: Final = "proxy"
"""Of the process."""

FLEET: Final = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
"""What nodes may ask of the link. Not `register-node` and `unregister-node`: who belongs is the operator's word."""

RESOLVERS: Final = Path("/etc/resolv.conf")

IDLE_BODY_BYTES: Final = 16 * 1024
"""What may be sent while there is no plan to say more or less."""


def nginx_conf(deployment: ServerDeployment) -> bytes:
    """The configuration of nginx for this server."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    text = files("fedseg.deploy").joinpath("templates", "nginx.conf.j2").read_text(encoding="utf-8")
    return (
        environment.from_string(text)
        .render(
            proxy=deployment.proxy,
            socket=deployment.socket,
            listen=deployment.terms.listen,
            fleet=FLEET,
            witness_socket=deployment.witness_socket,
            witnesses=[*deployment.terms.witnesses.values()],
            request_bytes=REQUEST_LIMIT_BYTES,
            resolvers=name_servers(RESOLVERS),
        )
        .encode()
    )


def name_servers(path: Path) -> list[str]:
    """The machine's name servers, as nginx wants them; it asks them while it runs, so it starts without any."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found: list[str] = []
    for words in (line.split() for line in lines if line.startswith("nameserver")):
        with contextlib.suppress(ValueError, IndexError):
            address = ipaddress.ip_address(words[1])
            found.append(f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address))
    return found


def limits_conf(body_bytes: int) -> bytes:
    """The part of the configuration that changes with the plans."""
    return f"client_max_body_size {body_bytes};\n".encode()


def body_limit(plans: Iterable[Plan]) -> int:
    """The longest body in bytes that nodes of these plans may send: a tenth more than the longest they do send."""
    longest = max((largest_body_bytes(plan) for plan in plans), default=None)
    return IDLE_BODY_BYTES if longest is None else -(-longest * 11 // 10)


def write_body_limit(deployment: ServerDeployment, plans: Iterable[Plan]) -> int:
    """Allow bodies as long as these plans need, at once if the proxy runs; returns the limit in bytes.

    Args:
        deployment: The server.
        plans: The plans of all jobs that have not ended.
    """
    limit = body_limit(plans)
    replace(deployment.proxy / "limits.conf", limits_conf(limit), deployment.proxy_account)
    Supervisor(deployment.supervisor, deployment.logs).signal(NAME, "HUP")
    return limit


def certificate_pem(issued: Issued) -> bytes:
    """The proxy's certificate with its key: one file, so that they are replaced in one step."""
    return issued.certificate + issued.key


def write_certificate(deployment: ServerDeployment, issued: Issued) -> None:
    """Give the proxy another certificate; one that runs uses it for every connection from now on."""
    replace(deployment.proxy / "server.pem", certificate_pem(issued), deployment.proxy_account)
    Supervisor(deployment.supervisor, deployment.logs).signal(NAME, "HUP")


def write_configuration(deployment: ServerDeployment) -> None:
    """Write nginx.conf and have nginx check it, and the certificate.

    Raises:
        DeploymentError: If nginx is missing or does not take it.
    """
    if deployment.terms.witnesses and not deployment.witnesses.exists():
        make(deployment.witnesses, deployment.proxy_account, 0o2750, group=deployment.server_account.gid)
    replace(deployment.proxy / "nginx.conf", nginx_conf(deployment), deployment.proxy_account)
    tried = run_as(
        deployment.proxy_account, [*command(deployment), "-t", "-q"], low_ports=is_low(deployment.listen.port)
    )
    if tried.returncode != 0:
        raise DeploymentError(
            "nginx does not take its configuration",
            why=" ".join(tried.stderr.split()),
            fix="make what it names right, or make the server anew: fedseg server init DIR",
        )


def end_workers(deployment: ServerDeployment) -> None:
    """Kill the workers of an nginx that was killed together with its supervisor; only while neither runs."""
    pid_file = deployment.proxy / "nginx.pid"
    try:
        group = read_small(pid_file).decode("ascii", "replace").strip()
    except OSError:  # there is none, or it is no plain file: then it is nothing that nginx has left
        return
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, fields = (process / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)
            ours = process.stat().st_uid == deployment.proxy_account.uid
            if ours and name.endswith("(nginx") and fields.split()[2] == group:
                end_process(int(process.name), signal.SIGKILL)
    pid_file.unlink()


def before(deployment: ServerDeployment) -> list[str]:
    """What goes before the command that runs the proxy.

    A killed nginx leaves workers that go on listening, and its successor could not: those of the process group that
    its pid file names, which nginx removes at an orderly end, are killed first, and its socket is removed.
    """
    killed = f'kill -s KILL -- "-$(cat {deployment.proxy}/nginx.pid)" 2>/dev/null'
    workers = f'{killed}; rm -f {deployment.witness_socket}; exec "$@"'
    as_proxy = confined(deployment.proxy_account, low_ports=is_low(deployment.listen.port))
    return [*as_proxy, "/bin/sh", "-c", workers, "sh"]


def command(deployment: ServerDeployment) -> list[str]:
    """The command that runs the proxy."""
    # -e: before it reads its configuration, nginx would write to a log that is not ours.
    return [program("nginx"), "-e", "stderr", "-c", str(deployment.proxy / "nginx.conf")]
