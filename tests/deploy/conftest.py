"""Real servers and nodes: short directories that every user may pass to, a Python that every user may run, and users."""

import contextlib
import itertools
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedseg.deploy.processes import ProcessState, Supervisor
from tests.small_federation import customers_csv, policy_document

ROOT = Path(__file__).parents[2]
NAMES = tuple(f"fsd-{os.getpid()}-{role}" for role in ("link", "proxy", "network", "data"))
"""System users, of this run of the tests alone."""
NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]


def free_port(among: Iterable[int] = (0,)) -> int:
    """One of these ports, if nobody listens on it; 0 means any."""
    for port in among:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as probe:
            return int(probe.getsockname()[1])
    raise AssertionError("all these ports are taken")


PORT, OTHER_PORT = free_port(), free_port()
"""Where the tests' servers listen."""


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> list[str]:
        """The last three lines on stderr: code and what, why, fix."""
        return self.err.splitlines()[-3:]

    @property
    def data(self) -> dict[str, Any]:
        """What it says as JSON; it must have succeeded."""
        assert self.code == 0, self.err
        found: dict[str, Any] = json.loads(self.out)["data"]
        return found


@dataclass(frozen=True)
class Operator:
    """Runs `fedseg` as root, or as an ordinary user."""

    folder: Path
    """Where the operator's directories are; every user may pass to it."""
    python: Path
    before: tuple[str, ...] = ()
    """What goes before each command."""

    def words(self, *arguments: object) -> list[str]:
        """The whole command line."""
        return [*self.before, str(self.python), "-P", "-m", "fedseg", *map(str, arguments)]

    def __call__(self, *arguments: object, under: tuple[str, ...] = ()) -> Ended:
        """Run a command; `under` is a program that runs it in turn."""
        done = subprocess.run(
            [*under, *self.words(*arguments)],
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: object) -> dict[str, Any]:
        """The data of a command that must succeed."""
        return self(*arguments, "--format", "json").data


@contextlib.contextmanager
def short_folder() -> Generator[Path]:
    """A folder with a path short enough for sockets, which every user may pass to; it goes with the block."""
    made = Path(tempfile.mkdtemp(prefix="fsd-", dir="/tmp"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


def everyones_python(folder: Path) -> Path:
    """An interpreter that every user may run, with the modules of this one.

    Raises:
        AssertionError: If there is none: these tests cannot run without, and say so.
    """
    version = f"python3.{sys.version_info.minor}"
    places = [Path(sys.executable).resolve(), Path("/usr/bin", version), Path("/usr/local/bin", version)]
    open_ones = [path for path in places if path.exists() and runs_for_nobody(path)]
    assert open_ones, f"no {version} that other users may run: install Debian's, or move {places[0]}"
    subprocess.run([open_ones[0], "-m", "venv", "--without-pip", folder / "venv"], check=True)
    modules = [sysconfig.get_path("purelib"), str(ROOT)]
    (folder / "venv" / "lib" / version / "site-packages" / "here.pth").write_text("\n".join(modules), "utf-8")
    return folder / "venv" / "bin" / "python"


def runs_for_nobody(program: Path) -> bool:
    before = [*NOBODY, "env"] if os.geteuid() == 0 else []
    return subprocess.run([*before, program, "-c", ""], capture_output=True, check=False, cwd="/").returncode == 0


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Path, Path]]:
    """A folder for all, and a Python for all."""
    with short_folder() as made:
        yield made, everyones_python(made)


@pytest.fixture(scope="session")
def root(shared: tuple[Path, Path]) -> Iterator[Operator]:
    """Root, with four system users made for these tests."""
    assert os.geteuid() == 0, "needs root, to run processes as several users: sudo make test-processes"
    remove_users(lambda run: not Path("/proc", run).exists())  # what a killed run of the tests has left
    for name in NAMES:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
        subprocess.run(command, check=True)
    yield Operator(*shared)
    remove_users(lambda run: run == str(os.getpid()))


def remove_users(of_run: Callable[[str], bool]) -> None:
    """Remove the users of the runs of these tests for which `of_run` says so; it is given the number in their names."""
    for user in pwd.getpwall():
        parts = user.pw_name.split("-")
        if parts[0] == "fsd" and len(parts) == 3 and of_run(parts[1]):
            subprocess.run(["userdel", "--force", user.pw_name], check=True)


@pytest.fixture(scope="session")
def alone(shared: tuple[Path, Path]) -> Operator:
    """An ordinary user: nobody where the tests run as root."""
    folder = shared[0] / "alone"
    folder.mkdir()
    if os.geteuid() != 0:
        return Operator(folder, shared[1])
    shutil.chown(folder, "nobody", "nogroup")
    return Operator(folder, shared[1], tuple(NOBODY))


@dataclass(frozen=True)
class Server:
    """A server's directory, and who runs it."""

    operator: Operator
    path: Path

    def __call__(self, verb: str, *options: object, **more: Any) -> Ended:
        """Run `fedseg server VERB DIR`."""
        return self.operator("server", verb, self.path, *options, **more)

    def json(self, verb: str, *options: object) -> dict[str, Any]:
        """What it says as JSON; it must succeed."""
        return self.operator.json("server", verb, self.path, *options)

    def pids(self) -> dict[str, int]:
        """The running processes by name."""
        return pids(self.path)


@dataclass(frozen=True)
class Node:
    """A node's directory, and who runs it."""

    operator: Operator
    path: Path

    def __call__(self, verb: str, *options: object, **more: Any) -> Ended:
        """Run `fedseg node VERB DIR`."""
        return self.operator("node", verb, self.path, *options, **more)

    def json(self, verb: str, *options: object) -> dict[str, Any]:
        """What it says as JSON; it must succeed."""
        return self.operator.json("node", verb, self.path, *options)

    def pids(self) -> dict[str, int]:
        """The running processes by name."""
        return pids(self.path)


def pids(path: Path) -> dict[str, int]:
    return {one.name: one.pid for one in states(path) if one.pid is not None}


def states(path: Path) -> list[ProcessState]:
    return Supervisor(path / "supervisor", path / "logs").states()


def is_alive(pid: int) -> bool:
    """Whether a process runs, and does not just wait for someone to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes_of(path: Path) -> set[int]:
    """All live processes that name a path below this one."""
    found = set()
    for one in Path("/proc").iterdir():
        try:
            named = one.name.isdigit() and f"{path}/" in (one / "cmdline").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if named and is_alive(int(one.name)):
            found.add(int(one.name))
    return found


SERVER_USERS = ["--server-user", NAMES[0], "--proxy-user", NAMES[1]]
NODE_USERS = ["--network-user", NAMES[2], "--data-user", NAMES[3]]


def make_server(operator: Operator, name: str, *options: object, port: int) -> Server:
    made = Server(operator, operator.folder / name)
    decides = [] if "--officer" in options else ["--single-operator"]
    ended = made("init", "--host", "localhost", "--listen", f"127.0.0.1:{port}", *decides, *options)
    assert ended.code == 0, ended.err
    return made


def node_files(folder: Path, unit: str, owner: str | None) -> list[object]:
    """A unit's customers and policy, as options for `fedseg node init`; the customers' file is this user's alone."""
    data, policy = folder / f"{unit}.csv", folder / f"{unit}.yaml"
    data.write_bytes(customers_csv([("a", (1, 2)), ("b", (3, 4))]))
    data.chmod(0o600)
    if owner is not None:
        shutil.chown(data, owner)
    policy.write_bytes(policy_document())
    return ["--unit", unit, "--policy", policy, "--data", data, "--subject", "customer"]


MakeServer = Callable[..., Server]
"""Takes an operator, a name, options of `fedseg server init`, and the port."""


@pytest.fixture
def make() -> Iterator[MakeServer]:
    """Makes servers, and stops them in the end."""
    with contextlib.ExitStack() as ends:

        def made(operator: Operator, name: str, *options: object, port: int) -> Server:
            server = make_server(operator, name, *options, port=port)
            ends.callback(stop, server)
            return server

        yield made


def stop(one: Server | Node) -> None:
    one("stop")
    assert not processes_of(one.path)


@pytest.fixture(scope="session")
def server(root: Operator) -> Iterator[Server]:
    """A server of two users, started."""
    made = make_server(root, "server", *SERVER_USERS, port=PORT)
    started = made("start")
    assert started.code == 0, started.err
    yield made
    stop(made)


def make_node(root: Operator, server: Server, unit: str) -> Node:
    made = Node(root, root.folder / unit)
    files = node_files(root.folder, unit, NAMES[3])
    ended = made("init", *files, "--server", f"localhost:{PORT}", "--ca", server.path / "ca.crt", *NODE_USERS)
    assert ended.code == 0, ended.err
    return made


UNITS = itertools.count(1)


@pytest.fixture
def node(root: Operator, server: Server) -> Iterator[Node]:
    """A node of two users, not approved, not started."""
    made = make_node(root, server, f"unit-{next(UNITS)}")
    yield made
    stop(made)


@pytest.fixture(scope="session")
def connected(root: Operator, server: Server) -> Iterator[Node]:
    """Another one, approved and started."""
    made = make_node(root, server, "connected")
    approve(server, made)
    started = made("start")
    assert started.code == 0, started.err
    yield made
    stop(made)


def approve(server: Server, node: Node) -> dict[str, Any]:
    asked = node.json("request")
    return server.json("approve", asked["request"], "--fingerprint", asked["fingerprint"])
