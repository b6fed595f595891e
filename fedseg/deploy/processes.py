"""The processes of a deployment under one supervisord: started together, restarted when they end, stopped in order.

supervisord reads a file that is written anew at each start, runs as its caller, and is spoken to over a Unix socket
that the caller alone may open. When it ends, however it ends, so do the processes.
"""

import configparser
import contextlib
import http.client
import io
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from supervisor.xmlrpc import Faults

from fedseg.deploy.directory import replace
from fedseg.deploy.logs import LogMark
from fedseg.deploy.users import caller, environment, program, python
from fedseg.errors import DeploymentError, NotStartedError, UnreachableError

Tell = Callable[[str], None]
"""Says on the side what is waited for."""

CALL_SECONDS: Final = 10.0
"""Longest wait for an answer of the supervisor."""
STOP_SECONDS: Final = 90.0
"""Longest wait for the end of all processes. Each is killed when its own patience is over, long before."""
END_SECONDS: Final = 20.0
"""Longest wait for the end of one process after a signal."""
LOOK_SECONDS: Final = 0.25
"""How often to look whether what is waited for has come."""
HOPELESS_EXITS: Final = 3
"""A start is given up when a process has ended that often; afterwards it would be tried for ever."""
LOG_BYTES: Final = "5MB"
LOG_BACKUPS: Final = 5
LOG_UMASK: Final = 0o027
RETRIES: Final = 10**9
"""A process that keeps failing is tried again for ever, each time one second later than the time before."""

_EXITED = re.compile(r"exited: (\w+) \(exit status (\d+)")


@dataclass(frozen=True, slots=True)
class Program:
    """A process to run."""

    name: str
    before: Sequence[str]
    """What makes the process its user, as `confined` says."""
    command: Sequence[str]
    home: Path
    """Its own directory, where it is started and which is its HOME."""
    priority: int
    """Processes start in this order and stop in reverse."""
    start_seconds: int
    """A process that ends sooner has failed to start, and waits longer and longer before it is tried again."""
    stop_signal: str = "TERM"
    stop_seconds: int = 20
    """It is killed if it has not ended by then."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What the supervisor knows of a process."""

    name: str
    state: str
    """RUNNING, or else: STARTING, BACKOFF (between two attempts), STOPPING, STOPPED, EXITED, FATAL."""
    pid: int | None
    since: str | None
    """ISO time of its last start."""

    @property
    def is_running(self) -> bool:
        """Whether it has stayed up for its `start_seconds`."""
        return self.state == "RUNNING"


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket, whose path stands in for the host."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CALL_SECONDS)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket with a time limit; the supervisor's own transport waits for ever."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        self._connection = host, _Connection(self._path)
        return self._connection[1]


@dataclass(frozen=True)
class Supervisor:
    """The supervisord of one deployment."""

    folder: Path
    """Its own directory: configuration, socket, pid."""
    logs: Path

    @property
    def socket(self) -> Path:
        """Where it is spoken to."""
        return self.folder / "supervisor.sock"

    def is_running(self) -> bool:
        """Whether it answers.

        Raises:
            DeploymentError: If the caller may not know.
        """
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CALL_SECONDS)
            try:
                probe.connect(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except PermissionError as error:
                raise DeploymentError(
                    f"{self.folder.parent} belongs to another user",
                    why=f"{caller().name} may not open {self.socket}",
                    fix="run the same command as its owner, or with sudo if that is root",
                ) from error
        return True

    def states(self) -> list[ProcessState]:
        """All processes, by name; none if the supervisor does not run."""
        if not self.is_running():
            return []
        found: list[dict[str, Any]] = self._call("getAllProcessInfo")
        return [
            ProcessState(
                name=one["name"],
                state=one["statename"],
                pid=one["pid"] or None,
                since=datetime.fromtimestamp(one["start"], UTC).isoformat() if one["start"] else None,
            )
            for one in found
        ]

    def pid(self, name: str) -> int | None:
        """The live process of this name."""
        return next((one.pid for one in self.states() if one.name == name), None)

    def signal(self, name: str, signal_name: str) -> bool:
        """Send a signal to a process; False if it does not run."""
        if not self.is_running():
            return False
        try:
            self._call("signalProcess", name, signal_name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == Faults.NOT_RUNNING:
                return False
            raise
        return True

    @contextlib.contextmanager
    def starting(
        self, programs: Sequence[Program], *, foreground: bool, tell: Tell
    ) -> "Generator[subprocess.Popen[bytes] | None]":
        """Start supervisord with these programs; an exception or SIGTERM within the block stops them again.

        Yields:
            supervisord's process if it is to stay the caller's child, for `attend`; None if it goes its own way.

        Raises:
            NotStartedError: If it does not start; then nothing runs.
        """
        replace(self.folder / "supervisord.conf", self._configuration(programs).encode(), caller())
        command = python("supervisor.supervisord", "-c", self.folder / "supervisord.conf")
        with contextlib.ExitStack() as undo:
            undo.enter_context(_exit_on_sigterm(128 + signal.SIGTERM))
            child = None
            if foreground:
                child = self._launch_child(command)
                undo.callback(_end, child)
            else:
                self._launch_daemon(command)
                undo.callback(self.stop, tell)
            yield child
            undo.pop_all()

    def attend(self, child: "subprocess.Popen[bytes]") -> None:
        """Wait for the end of a supervisord that is the caller's child; SIGTERM and Ctrl-C end it in order.

        A service manager is told that all is well: nobody comes here before it is.

        Raises:
            UnreachableError: If it ended by no one's wish.
        """
        try:
            with _exit_on_sigterm(0):
                tell_ready(os.environ)
                code = child.wait()
        finally:
            _end(child)
        if code != 0:
            raise UnreachableError(
                "the supervisor has ended", why=f"its exit code is {code}", fix=f"see {self.logs / 'supervisor.log'}"
            )

    def _launch_daemon(self, command: list[str]) -> None:
        done = subprocess.run(  # noqa: S603 (a list of our own words, no shell)
            command,
            env=environment(self.folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            umask=LOG_UMASK,
            check=False,
            timeout=STOP_SECONDS,  # it goes its own way within a second
        )
        if done.returncode != 0:
            raise NotStartedError(
                "the supervisor did not start",
                why=" ".join(done.stderr.split()) or f"it ended with {done.returncode}",
                fix=f"see {self.logs / 'supervisor.log'}",
            )

    def _launch_child(self, command: list[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 (as above)
            [program("setpriv"), "--pdeathsig=TERM", "--", *command, "--nodaemon"],
            env=environment(self.folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            umask=LOG_UMASK,
            start_new_session=True,  # Ctrl-C is for the caller, who then ends it in order
        )

    def end_leftovers(self, programs: Sequence[Program]) -> None:
        """End processes that have outlived a killed supervisor; only while none runs.

        They end with it by themselves, but not if it was killed in the moment in which it started them.
        """
        commands = tuple(" ".join(one.command[1:]) for one in programs)
        here = Path("/proc/self/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if (process / "ns" / "pid").readlink() != here:  # a container's, which may have the same paths
                    continue
                # nginx writes a title in front of its command.
                words = (process / "cmdline").read_bytes().decode("utf-8", "replace").rstrip("\0").replace("\0", " ")
                if words.endswith(commands):
                    end_process(int(process.name), signal.SIGTERM, signal.SIGKILL)

    def stop(self, tell: Tell) -> bool:
        """Stop all processes in order, then the supervisor; False if it did not run.

        Raises:
            UnreachableError: If it is not done within `STOP_SECONDS`.
        """
        if not self.is_running():
            return False
        with contextlib.suppress(UnreachableError):  # it may have been told already, and be gone
            self._call("shutdown")
        tell(f"waiting for the processes to end (at most {STOP_SECONDS:g} s)")
        end = time.monotonic() + STOP_SECONDS
        while self.is_running():
            if time.monotonic() >= end:
                raise UnreachableError(
                    "the processes do not end",
                    why=f"waited {STOP_SECONDS:g} s",
                    fix=f"kill -KILL $(cat {self.folder / 'supervisord.pid'}), which ends them all",
                )
            time.sleep(LOOK_SECONDS)
        return True

    def wait_well(self, missing: Callable[[], str | None], mark: LogMark, *, timeout: float, tell: Tell) -> str | None:
        """Look again and again until nothing is missing; what is missing is told whenever it changes.

        Returns:
            None, or why the wait is over: `timeout` seconds have passed, or a process keeps ending.
        """
        end = time.monotonic() + timeout
        told: str | None = None
        while (now := missing()) is not None:
            exits = self.exits(mark)
            for name, count in Counter(name for name, _ in exits).items():
                if count >= HOPELESS_EXITS:
                    return f"waited for {name}, which has ended {count} times, with exit code {dict(exits)[name]}"
            if time.monotonic() >= end:
                return f"waited {timeout:g} s for {now}"
            if now != told:
                tell(f"waiting for {now} (at most {max(0.0, end - time.monotonic()):.0f} s)")
                told = now
            time.sleep(LOOK_SECONDS)
        return None

    def exits(self, mark: LogMark) -> list[tuple[str, int]]:
        """Names and exit codes of the processes that have ended unasked since `mark`, in order."""
        return [(name, int(code)) for name, code in _EXITED.findall(mark.since(self.logs / "supervisor.log"))]

    def _call(self, name: str, *arguments: str) -> Any:
        # The supervisor is our own child, spoken to over a socket that nobody else may open.
        with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self.socket)) as proxy:
            try:
                return getattr(proxy.supervisor, name)(*arguments)
            except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
                raise self._silent(type(error).__name__) from error
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == Faults.SHUTDOWN_STATE:
                    raise self._silent("it is being stopped") from fault
                raise

    def _silent(self, why: str) -> UnreachableError:
        return UnreachableError(
            "the supervisor does not answer", why=why, fix=f"see {self.logs / 'supervisor.log'}, and try again"
        )

    def _configuration(self, programs: Sequence[Program]) -> str:
        sections: dict[str, Mapping[str, object]] = {
            "supervisord": {
                "pidfile": self.folder / "supervisord.pid",
                "directory": self.folder,
                "childlogdir": self.logs,
                "umask": f"{LOG_UMASK:o}",
                "silent": "true",
                **self._log("supervisor", "logfile"),
                **({"user": "root"} if caller().uid == 0 else {}),
            },
            "unix_http_server": {"file": self.socket, "chmod": "0600"},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            **{f"program:{one.name}": self._program(one) for one in programs},
        }
        made = configparser.RawConfigParser()
        made.read_dict({name: {key: str(value) for key, value in keys.items()} for name, keys in sections.items()})
        text = io.StringIO()
        made.write(text)
        return text.getvalue()

    def _program(self, one: Program) -> dict[str, object]:
        return {
            "command": shlex.join([*one.before, *one.command]).replace("%", "%%"),
            "directory": one.home,
            "environment": ",".join(f'{name}="{value}"' for name, value in environment(one.home).items()),
            "umask": "077",
            "priority": one.priority,
            "autorestart": "true",
            "startsecs": one.start_seconds,
            "startretries": RETRIES,
            "stopsignal": one.stop_signal,
            "stopwaitsecs": one.stop_seconds,
            "killasgroup": "true",
            "redirect_stderr": "true",
            **self._log(one.name, "stdout_logfile"),
        }

    def _log(self, name: str, key: str) -> dict[str, object]:
        return {
            key: self.logs / f"{name}.log",
            f"{key}_maxbytes": LOG_BYTES,
            f"{key}_backups": LOG_BACKUPS,
        }


def tell_ready(environment: Mapping[str, str]) -> None:
    """Tell a service manager that waits for it that all is well; without one nothing happens. See sd_notify(3)."""
    place = environment.get("NOTIFY_SOCKET")
    if place is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(f"\0{place[1:]}" if place.startswith("@") else place)
        sender.sendall(b"READY=1")


def end_process(pid: int, *signals: signal.Signals) -> None:
    """Send these signals to a process, one after the other, until it has ended; waits at most a while after each."""
    process = os.pidfd_open(pid)
    try:
        for one in signals:
            signal.pidfd_send_signal(process, one)
            if select.select([process], [], [], END_SECONDS)[0]:
                return
    finally:
        os.close(process)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End supervisord in order, if it has not ended, and take note of its end."""
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()  # its processes end with it
        child.wait()


@contextlib.contextmanager
def _exit_on_sigterm(code: int) -> Generator[None]:
    """Leave the block by `SystemExit` when SIGTERM comes, so that what it has begun is undone."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
