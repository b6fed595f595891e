"""Commands run to their end, processes that always end, and waiting that says what it waited for."""

import contextlib
import os
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 20
COMMAND_SECONDS = 600
NOTE_CHARACTERS = 2000
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""Nothing is reported, looked up or installed."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment, with the commands of this installation first on the path, and `more`."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    return {**os.environ, **QUIET, "PATH": path, **more}


def run(command: Sequence[str], env: Mapping[str, str], timeout_seconds: float = COMMAND_SECONDS) -> str:
    """What a command prints.

    Raises:
        RuntimeError: If it fails; holds all it said.
    """
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=timeout_seconds)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def started(command: Sequence[str], env: Mapping[str, str], log: Path) -> Generator[None]:
    """A process with its output in `log`; it and all it started have ended afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        yield
    except RuntimeError as error:
        error.add_note(f"{log.name} ends with:\n{log.read_text(encoding='utf-8', errors='replace')[-NOTE_CHARACTERS:]}")
        raise
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # the usual case: nothing of it is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(
    holds: Callable[[], bool], what: str, *, timeout_seconds: float = 120, poll_seconds: float = 0.2
) -> None:
    """Wait until `holds()`.

    Raises:
        RuntimeError: After `timeout_seconds`; says what did not happen.
    """
    end = time.monotonic() + timeout_seconds
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(poll_seconds)


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
