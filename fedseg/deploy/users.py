"""The two operating system users of a server or node, and the commands by which a process runs as one of them.

What speaks to the network and what holds the data never share a user, unless the operator says `--single-user`. Every
process runs without capabilities and can gain none; the data process has no network either.
"""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedseg.errors import DeploymentError, SettingsError

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for, whatever the caller's environment says."""
PACKAGES: Final = {"nginx": "nginx-light", "setpriv": "util-linux", "unshare": "util-linux", "tail": "coreutils"}
"""Programs that are no Python package, and the Debian packages they come in."""
UNPRIVILEGED_PORT_START: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
LOG_FORMAT: Final = "FEDSEG_LOG_FORMAT"
"""The one variable of the caller's that processes get to see: how they write their logs."""
SECONDS: Final = 30.0
_FILES_AT_ONCE: Final = 500
_READABLE: Final = 'for one; do if test -r "$one"; then echo yes; else echo no; fi; done'
"""Longest wait for a check in another user's name."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system."""

    name: str
    uid: int
    gid: int
    """Its primary group."""


def environment(home: Path) -> dict[str, str]:
    """All that a process of ours gets to know from its environment."""
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "FLWR_HOME": str(home / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        LOG_FORMAT: log_format(os.environ),
    }


def log_format(variables: Mapping[str, str]) -> str:
    """How processes are to write their logs: `text` or `json`, as these variables say.

    Raises:
        SettingsError: If they say something else.
    """
    found = variables.get(LOG_FORMAT, "text")
    if found not in {"text", "json"}:
        raise SettingsError(
            f"{LOG_FORMAT} is {found!r}", why="a log is written as text or as json", fix=f"export {LOG_FORMAT}=json"
        )
    return found


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module with this Python, which looks for modules nowhere but where it is installed."""
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def program(name: str) -> str:
    """The path of a program.

    Raises:
        DeploymentError: If the machine has none of this name.
    """
    found = shutil.which(name, path=PATH)
    if found is None:
        raise DeploymentError(
            f"this machine has no {name}", why=f"it is in none of {PATH}", fix=f"apt-get install {PACKAGES[name]}"
        )
    return found


def account(name: str) -> Account:
    """The user of this name.

    Raises:
        DeploymentError: If there is none.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise DeploymentError(
            f"this machine has no user {name}",
            why="the processes of a server or node run as users made for them",
            fix=f"useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {name}",
        ) from None
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def caller() -> Account:
    """Who runs this command; a user that nobody has named has its number for a name."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    return Account(name, os.geteuid(), os.getegid())


def choose(
    first: str | None, second: str | None, *, single_user: bool, options: tuple[str, str]
) -> tuple[Account, Account]:
    """The two users that the command line names, or the caller twice.

    Args:
        first: Value of the first option.
        second: Value of the second option.
        single_user: Whether the caller is to run everything.
        options: Names of the two options, for errors.

    Raises:
        SettingsError: If the options do not go together.
        DeploymentError: If the users cannot serve: unknown, root, the same one, or the caller may not act for them.
    """
    if single_user and first is None and second is None:
        return _the_caller(options)
    if not single_user and first is not None and second is not None:
        return _two(account(first), account(second))
    raise SettingsError(
        "the command does not say who is to run the two processes",
        why=f"it needs both {options[0]} and {options[1]}, or --single-user alone",
        fix=f"as root, with two system users: {options[0]} USER {options[1]} OTHER",
    )


def _the_caller(options: tuple[str, str]) -> tuple[Account, Account]:
    me = caller()
    if me.uid == 0:
        raise DeploymentError(
            "root cannot be the single user",
            why="the process that speaks to the network would own the whole machine",
            fix=f"name two system users with {options[0]} and {options[1]}, or run this as an ordinary user",
        )
    return me, me


def _two(first: Account, second: Account) -> tuple[Account, Account]:
    if os.geteuid() != 0:
        raise DeploymentError(
            f"{caller().name} cannot start processes as {first.name} and {second.name}",
            why="that takes root",
            fix="run the same command with sudo, or with --single-user instead of the two names",
        )
    if first.uid == second.uid or 0 in {first.uid, second.uid}:
        raise DeploymentError(
            f"{first.name} and {second.name} cannot be the two users",
            why="they must be two, and neither of them root, or nothing is kept apart",
            fix="useradd --system --user-group --no-create-home --shell /usr/sbin/nologin NAME",
        )
    return first, second


def confined(who: Account, *, network: bool = True, low_ports: bool = False) -> list[str]:
    """What goes before a command that is to run as `who`, without capabilities, and to end when its parent does.

    Args:
        who: The user; the caller itself unless the caller is root.
        network: False for an empty network namespace of its own: no interface but a loopback that is down.
        low_ports: True to keep the one capability to listen on ports below 1024; takes root.
    """
    root = os.geteuid() == 0
    kept = "-all,+net_bind_service" if low_ports else "-all"
    become = [f"--reuid={who.uid}", f"--regid={who.gid}", "--clear-groups", f"--bounding-set={kept}"] if root else []
    drop = ["--no-new-privs", f"--inh-caps={kept}", f"--ambient-caps={kept}", "--pdeathsig=TERM"]
    isolate = [] if network else [program("unshare"), *([] if root else ["--map-current-user"]), "--net", "--"]
    return [*isolate, program("setpriv"), *become, *drop, "--"]


def run_as(
    who: Account, command: Sequence[str], *, network: bool = True, low_ports: bool = False
) -> "subprocess.CompletedProcess[str]":
    """Run a short command as `who`, confined as in `confined`, with the environment that the user's processes get.

    Raises:
        DeploymentError: If it takes longer than `SECONDS`.
    """
    try:
        return subprocess.run(  # noqa: S603 (a list of our own words, no shell)
            [*confined(who, network=network, low_ports=low_ports), *command],
            cwd="/",
            env=environment(Path("/nonexistent")),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(
            f"{command[0]} does not end when {who.name} runs it",
            why=f"waited {SECONDS:g} s",
            fix="look at the load of this machine, and try again",
        ) from error


def readable(who: Account, files: Sequence[Path]) -> list[Path]:
    """Those of the files that `who` can read, all directories above them included."""
    found: list[Path] = []
    for start in range(0, len(files), _FILES_AT_ONCE):
        some = [str(one) for one in files[start : start + _FILES_AT_ONCE]]
        answer = run_as(who, ["sh", "-c", _READABLE, "sh", *some]).stdout.split("\n")
        found += [Path(one) for one, said in zip(some, answer, strict=False) if said == "yes"]
    return found


def require_ready(who: Account, directory: Path) -> None:
    """Check that `who` can run fedseg and pass to `directory`.

    Raises:
        DeploymentError: If not.
    """
    if run_as(who, ["test", "-x", str(directory)]).returncode != 0:
        raise DeploymentError(
            f"the user {who.name} cannot pass to {directory}",
            why="it, or a directory above it, is closed to other users",
            fix="choose a directory that every user may pass to, such as /srv/fedseg",
        )
    if run_as(who, [sys.executable, "-P", "-c", "import fedseg.errors"]).returncode != 0:
        raise DeploymentError(
            f"the user {who.name} cannot run fedseg",
            why=f"{sys.executable}, or what it needs, is closed to other users",
            fix="make its virtual environment where every user may read it, such as below /opt",
        )


def require_isolation(who: Account, process: str) -> None:
    """Check that this machine lets a process of `who` have an empty network namespace; without one nothing is started.

    Raises:
        DeploymentError: If not.
    """
    tried = run_as(who, ["true"], network=False)
    if tried.returncode != 0:
        raise DeploymentError(
            f"the {process} process cannot be cut off from the network on this machine",
            why=f"the kernel refuses a network namespace: {tried.stderr.strip()}",
            fix=(
                "allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
                "kernel.apparmor_restrict_unprivileged_userns), or run as root with two system users"
            ),
        )


def is_low(port: int) -> bool:
    """Whether listening on this port takes a privilege."""
    return port < int(UNPRIVILEGED_PORT_START.read_text(encoding="ascii"))
