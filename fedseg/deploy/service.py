"""systemd services for servers and nodes: rendered from what a deployment's directory says, hardened, for this machine.

What is started is `fedseg node start DIR --foreground`, or the server's twin: the same command as by hand. As root it
needs the right to become the deployment's users and to make an empty network namespace, and gets no other; its
processes get none at all. With a single user there is no root in it, and a user namespace gives what is needed.
"""

import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from jinja2 import Environment, StrictUndefined

from fedseg.deploy.directory import write_new
from fedseg.deploy.monitor import watcher
from fedseg.deploy.processes import STOP_SECONDS
from fedseg.deploy.settings import FILE, NodeDeployment, ServerDeployment
from fedseg.deploy.users import caller, is_low
from fedseg.errors import DeploymentError

WELL_SECONDS: Final = 120
"""What `start` is given until the deployment is well."""
START_SECONDS: Final = WELL_SECONDS + 120
"""What systemd gives it: the checks before come on top."""
ENDED_SECONDS: Final = int(STOP_SECONDS) + 30
"""What systemd waits for an orderly end, after which it kills."""
REJOIN_SECONDS: Final = 65
"""How long a node that was killed waits: the link counts it as connected for two heartbeats of 30 s, and refuses it."""
SERVER_AGAIN_SECONDS: Final = 5

CAPABILITIES: Final = {
    "CAP_SETUID": "to become the deployment's users",
    "CAP_SETGID": "to become the deployment's users",
    "CAP_SETPCAP": "to take every capability from their processes, for ever",
    "CAP_SYS_ADMIN": "to make the empty network namespace of what has customers or keys",
    "CAP_KILL": "to stop processes of other users",
    "CAP_DAC_OVERRIDE": "to look into directories that are closed to all but those users",
    "CAP_CHOWN": "to give the proxy its configuration",
    "CAP_FOWNER": "to give the proxy its configuration",
}
"""What root keeps inside the service, and why."""
LOW_PORT_CAPABILITY: Final = "CAP_NET_BIND_SERVICE"

_PRIVATE = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 (no file is made there)
_PLAIN = re.compile(r"[A-Za-z0-9_./+@=,:-]+")


@dataclass(frozen=True, slots=True)
class Service:
    """A file for systemd."""

    name: str
    """With its ending."""
    text: str


def open_deployment(path: Path) -> NodeDeployment | ServerDeployment:
    """The server or node in this directory, which belongs to the caller.

    Raises:
        DeploymentError: If it is neither.
    """
    try:
        is_server = tomllib.loads((path / FILE).read_text(encoding="utf-8")).get("role") == "server"
    except (OSError, ValueError):
        is_server = False  # what is wrong is said by opening it
    return ServerDeployment.open(path) if is_server else NodeDeployment.open(path)


def service_of(deployment: NodeDeployment | ServerDeployment) -> Service:
    """The service that runs this deployment at boot, and again when it ends.

    Raises:
        DeploymentError: If it lies where a service cannot see it.
    """
    role = deployment.terms.role
    command = [sys.executable, "-P", "-m", "fedseg", role]
    for path in (deployment.path, Path(sys.executable)):
        _require_visible(path)
    return Service(
        name_of(deployment),
        _render(
            "service.j2",
            {
                "what": name_of(deployment).removesuffix(".service"),
                "start": _words([*command, "start", str(deployment.path), "--foreground", "--timeout", WELL_SECONDS]),
                "directory": deployment.path,
                "user": caller().name if deployment.single_user else "root",
                "root": not deployment.single_user,
                "capabilities": _capabilities(deployment),
                "start_seconds": START_SECONDS,
                "end_seconds": ENDED_SECONDS,
                "again_seconds": SERVER_AGAIN_SECONDS if role == "server" else REJOIN_SECONDS,
                "is_node": role == "node",
            },
        ),
    )


def monitor_service_of(deployment: NodeDeployment | ServerDeployment, port: int) -> Service:
    """The service that answers the machine's monitoring about this deployment, as the network's user, without root.

    Raises:
        DeploymentError: If the deployment lies where a service cannot see it, or its user has gone.
    """
    for path in (deployment.path, Path(sys.executable)):
        _require_visible(path)
    what = f"{name_of(deployment).removesuffix('.service')}-monitor"
    command = [sys.executable, "-P", "-m", "fedseg", "monitor", str(deployment.path), "--port", port]
    values = {"what": what, "start": _words(command), "user": watcher(deployment).name}
    return Service(f"{what}.service", _render("monitor.service.j2", values))


def name_of(deployment: NodeDeployment | ServerDeployment) -> str:
    """The service's name; a machine may have nodes of several units."""
    if isinstance(deployment, NodeDeployment):
        return f"fedseg-node-{deployment.terms.unit}.service"
    return "fedseg-server.service"


def write_service(service: Service, folder: Path) -> Path:
    """Write it into a folder, such as /etc/systemd/system. One that says the same already is left as it is.

    Raises:
        DeploymentError: If another one is there: somebody may have changed it.
    """
    path = folder / service.name
    try:
        return write_new(path, service.text.encode(), caller(), 0o644)
    except FileExistsError as error:
        if path.read_text(encoding="utf-8") == service.text:
            return path
        raise DeploymentError(
            f"{path} is there already, and says something else",
            why="nothing is ever overwritten",
            fix=f"keep changes of your own with: systemctl edit {service.name}; move {path} away, and try again",
        ) from error


def _capabilities(deployment: NodeDeployment | ServerDeployment) -> list[str]:
    if deployment.single_user:
        return []
    low = isinstance(deployment, ServerDeployment) and is_low(deployment.listen.port)
    return [*CAPABILITIES, *([LOW_PORT_CAPABILITY] if low else [])]


def _require_visible(path: Path) -> None:
    if any(path.is_relative_to(one) for one in _PRIVATE):
        raise DeploymentError(
            f"a service cannot see {path}",
            why="services have a /tmp of their own",
            fix="make the deployment, and the environment with fedseg, elsewhere, such as below /srv and /opt",
        )


def _words(command: Sequence[object]) -> str:
    """A command as systemd reads it; see systemd.service(5), "Command lines"."""
    return " ".join(_word(str(one)) for one in command)


def _word(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{quoted}"'


def _render(template: str, values: Mapping[str, object]) -> str:
    environment = Environment(
        autoescape=False,  # noqa: S701 (no markup; every value is checked or made by us)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = files("fedseg.deploy").joinpath("templates", template).read_text(encoding="utf-8")
    return environment.from_string(text).render(values)
