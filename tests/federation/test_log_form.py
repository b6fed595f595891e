"""A process's log: as text or as JSON, a record a line whatever a peer's words hold."""

import json
import os
import subprocess
import sys

import pytest

from fedseg.deploy import users
from fedseg.errors import SettingsError
from fedseg.federation.flower import sockets

SAY = """
import logging
from fedseg.federation.flower.sockets import start_log
start_log()
logging.getLogger("fedseg").error("release.refused code=E703 peer=%s", "two\\nlines\\u2028\\x1b[31m")
"""


def logged(**variables: str) -> list[str]:
    environment = {"PATH": os.environ["PATH"], "FLWR_TELEMETRY_ENABLED": "0", **variables}
    done = subprocess.run(
        [sys.executable, "-c", SAY], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stderr.splitlines()


def test_a_line_is_text_unless_json_is_asked_for() -> None:
    starting, refused = logged()
    assert "INFO process.starting" in starting
    assert refused.endswith(r"ERROR release.refused code=E703 peer=two\nlines\u2028\x1b[31m")


def test_a_record_is_one_json_object_a_line() -> None:
    starting, refused = (json.loads(line) for line in logged(FEDSEG_LOG_FORMAT="json"))
    assert set(starting) == set(refused) == {"time", "level", "process", "message"}
    assert refused["message"] == "release.refused code=E703 peer=two\nlines\u2028\x1b[31m"
    assert refused["level"] == "ERROR"


def test_the_form_passes_to_processes_and_another_one_is_refused() -> None:
    assert users.LOG_FORMAT == sockets.LOG_FORMAT
    assert users.log_format({}) == "text"
    assert users.log_format({users.LOG_FORMAT: "json"}) == "json"
    with pytest.raises(SettingsError, match="'yaml'"):
        users.log_format({users.LOG_FORMAT: "yaml"})
