"""A small world for the system tests: machines with a network of their own, users of their own, nothing left behind.

The tests of this folder run in namespaces of their own: of mounts, network and processes, and of users where pytest does
not run as root. What they make in there ends with them, however they end: users, interfaces, firewalls, processes, files.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.system.processes import PATIENCE_SECONDS, ROOT, Command, do, run

REPORTS: Final = "FEDSEG_SYSTEM_REPORTS"
"""Environment variable with the pipe for reports; it is set inside the namespaces alone."""
NO_NAMESPACES: Final = "needs root, or user namespaces with a range of sub-uids: see docs/how-to"
PACKAGES: Final = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ip": "iproute2",
    "nft": "nftables",
    "nginx": "nginx-light",
    "faketime": "faketime",
}
"""The programs that are needed, and the Debian packages they are in."""

WORLD: Final = Path("/run/fedseg")
"""Where the tests' directories are: in memory, and every user may pass."""
SERVER_ADDRESS: Final = "10.83.0.1"
PORT: Final = 8443


# ------------------------------------------------------------------------------------------------------ in and out


class World:
    """Pytest once more, inside namespaces; the pytest outside starts it and asks it for its reports."""

    def __init__(self, arguments: Sequence[str], *, quiet: bool) -> None:
        reading, writing = os.pipe()
        self._reports = os.fdopen(reading, "rb")
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the world ends)
        # Bash is the first process in there: unlike pytest, it takes note of the end of processes that others left.
        inside = ["bash", "-c", '"$@"; exit $?', "bash", sys.executable, "-m", "pytest", *arguments]
        self._process = subprocess.Popen(
            [*_unshare(), *inside],
            cwd=ROOT,
            env=os.environ | {REPORTS: str(writing)},
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=self._output if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
        )
        os.close(writing)

    def reports_of(self, test: str) -> list[dict[str, Any]]:
        """A test's reports, once it is finished; none if the world ends before."""
        reports: list[dict[str, Any]] = []
        for line in self._reports:
            said = json.loads(line)
            if said == {"finished": test}:
                return reports
            if "report" in said:
                reports.append(said["report"])
        return []

    def last_words(self) -> str:
        """What it printed, for when it has ended before its time."""
        code = self._process.wait(PATIENCE_SECONDS)
        self._output.seek(0)
        said = self._output.read().decode(errors="replace")
        return f"pytest inside the namespaces ended with {code} and without a report of this test:\n{said[-8000:]}"

    def end(self) -> None:
        """End everything in there."""
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        self._reports.close()
        self._output.close()


def is_inside() -> bool:
    """Whether this process is in the world, so that it may change networks, users and mounts."""
    return REPORTS in os.environ


def tell(said: Mapping[str, Any]) -> None:
    """Tell the pytest outside."""
    os.write(int(os.environ[REPORTS]), json.dumps(said).encode() + b"\n")


def what_is_missing() -> str:
    """Why there can be no such world on this machine; empty if there can."""
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            return f"needs {program}: apt-get install {package}"
    tried = run([*_unshare(), "setpriv", "--reuid", "1", "true"])
    return f"{NO_NAMESPACES}\n{tried.err}" if tried.code else ""


def _unshare() -> list[str]:
    """The command that runs the rest of its words in new namespaces. It dies with its parent, and they die with it."""
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user", "--map-auto"]
    others = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *users, *others]


# --------------------------------------------------------------------------------------------------- what is inside


@dataclass(frozen=True, slots=True)
class User:
    """A system user of the world."""

    name: str
    uid: int

    def does(self, command: Command) -> Command:
        """The command, run by this user, without any privilege."""
        identity = ["--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups"]
        return ["setpriv", *identity, "--no-new-privs", *command]


def furnish(names: Iterable[str]) -> dict[str, User]:
    """Make the world habitable: a /run of its own, a switch, users of these names, and a way for them to Python."""
    assert is_inside(), "this would change the machine itself"
    do(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])
    for path in (Path("/run/netns"), WORLD):
        path.mkdir(mode=0o755)
    os.environ["HOME"] = str(WORLD)
    do(["ip", "link", "set", "lo", "up"])
    do(["ip", "link", "add", "switch", "type", "bridge"])
    do(["ip", "link", "set", "switch", "up"])
    users = _add_users(names)
    _open_the_way({ROOT, Path(sys.prefix), Path(sys.base_prefix)})
    tried = run(next(iter(users.values())).does([sys.executable, "-c", "import fedseg"]))
    assert tried.code == 0, f"other users cannot run {sys.executable} or read {ROOT}; chmod -R o+rX helps: {tried.err}"
    return users


def _add_users(names: Iterable[str]) -> dict[str, User]:
    """Add users and groups to the files that say who there is: this world's own, below an /etc of its own."""
    copy = WORLD / "etc"
    run(["cp", "--archive", "/etc", copy])  # without what this user may not read, where it is not really root
    do(["mount", "--bind", copy, "/etc"])
    known = [line.split(":") for line in Path("/etc/passwd").read_text("utf-8").splitlines()]
    taken = {int(fields[2]) for fields in known if len(fields) > 2}
    free = (uid for uid in range(40_000, 60_000) if uid not in taken)
    users = [User(name, uid) for name, uid in zip(names, free, strict=False)]
    added = {
        "passwd": [f"{one.name}:x:{one.uid}:{one.uid}::/nonexistent:/usr/sbin/nologin\n" for one in users],
        "group": [f"{one.name}:x:{one.uid}:\n" for one in users],
    }
    for file, lines in added.items():
        with Path("/etc", file).open("a", encoding="utf-8") as opened:
            opened.writelines(lines)
    return {one.name: one for one in users}


def _open_the_way(paths: set[Path]) -> None:
    """Let every user pass to these paths where a folder above them is closed, as someone's home is.

    An empty folder is laid over each closed one, with nothing in it but the paths.
    """
    closed: dict[Path, Path] = {}
    for path in sorted(paths):
        shut = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH]
        if shut:
            closed[path] = shut[0]
    held = {path: WORLD / f"held-{number}" for number, path in enumerate(closed)}
    for path, place in held.items():
        place.mkdir()
        do(["mount", "--rbind", path, place])
    for folder in set(closed.values()):
        do(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder])
    for path, place in held.items():
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        do(["mount", "--move", place, path])
        place.rmdir()
    os.chdir(ROOT)


# -------------------------------------------------------------------------------------------------------- machines

FIREWALL: Final = """
table inet machine {{
  chain input {{
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
  }}
  chain output {{
    type filter hook output priority 0; policy drop;
    oif lo accept
    ct state established,related accept
    ip daddr {server} tcp dport {port} meta skuid {uid} accept
  }}
}}
"""
"""A node's: nobody gets in, and one user gets out, to one port of one machine."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A network namespace with an interface at the switch."""

    name: str
    address: str

    @classmethod
    def make(cls, name: str, address: str) -> Self:
        """Make a machine and plug it in."""
        do(["ip", "netns", "add", name])
        do(["ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name])
        do(["ip", "link", "set", f"to-{name}", "master", "switch", "up"])
        made = cls(name, address)
        for settings in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            do(made.does(["ip", *settings.split()]))
        return made

    def lock(self, user: User) -> None:
        """Close every way in, and every way out but this user's to the server's port."""
        do(
            self.does(["nft", "-f", "-"]),
            give=FIREWALL.format(server=SERVER_ADDRESS, port=PORT, uid=user.uid),
        )

    def does(self, command: Command) -> Command:
        """The command, run on this machine."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def listens(self) -> set[tuple[str, int]]:
        """The protocol and the port of every socket on which someone takes what comes."""
        found: set[tuple[str, int]] = set()
        for protocol, waiting in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
            table = do(self.does(["cat", f"/proc/net/{protocol}"])).splitlines()[1:]
            rows = [line.split() for line in table]
            found |= {(protocol[:3], int(row[1].rpartition(":")[2], 16)) for row in rows if row[3] == waiting}
        return found
