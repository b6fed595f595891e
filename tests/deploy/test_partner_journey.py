"""A partner joins with the commands of one page and no others: on an empty machine, from nothing to a first approved plan.

The machine is a set of namespaces: its own users, its own `/srv`, its own network, in which the server's name resolves.
The server is set up there with the commands of its own page. What people do, these tests do: they carry files, read
fingerprints out, and write the plan.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tomli_w

from tests.deploy.conftest import ROOT, Ended
from tests.small_federation import plan_terms

pytestmark = pytest.mark.deployment

PAGE = ROOT / "docs/how-to/join-as-a-partner.md"
SERVER_PAGE = ROOT / "docs/how-to/run-the-server.md"
NUMBERS = {"four": 4, "twelve": 12}
FURNISH = """
set -e
ip link set lo up
mount -t tmpfs -o mode=0755 tmpfs /srv
cp -a /etc /srv/.etc && mount --bind /srv/.etc /etc
echo '127.0.0.1 segments.example.com' >> /etc/hosts
mkdir -p /srv/home /srv/data
touch /srv/.ready
exec sleep infinity
"""


def commands(page: Path, *, after: str = "", before: str = "\x00") -> list[str]:
    """The commands of a page's shell blocks between two headings, lines that go on joined."""
    text = page.read_text("utf-8").partition(after)[2].partition(before)[0] if after else page.read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


@dataclass
class Machine:
    """Namespaces that hold an empty machine."""

    pid: int
    bin: Path
    seconds: float = 0.0
    ran: list[str] = field(default_factory=list)

    def run(self, command: str) -> Ended:
        """Run a command as a person at the machine would, in its home directory."""
        path = f"{self.bin}:{os.environ['PATH']}"
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--"]
        began = time.monotonic()
        done = subprocess.run(
            [
                *inside,
                "env",
                "-i",
                "-C",
                "/srv/home",
                f"PATH={path}",
                "HOME=/srv/home",
                "LANG=C.UTF-8",
                "bash",
                "-c",
                command,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        self.seconds += time.monotonic() - began
        return Ended(done.returncode, done.stdout, done.stderr)

    def must(self, command: str) -> str:
        """What a command prints that has to succeed."""
        ended = self.run(command)
        self.ran.append(command)
        assert ended.code == 0, f"{command}\n{ended.out}{ended.err}"
        return ended.out

    def write(self, name: str, content: bytes) -> None:
        """Somebody puts a file into the home directory."""
        (Path(f"/proc/{self.pid}/root/srv/home") / name).write_bytes(content)


@pytest.fixture
def machine(shared: tuple[Path, Path]) -> Iterator[Machine]:
    assert os.geteuid() == 0, "needs root, to make a machine of namespaces: sudo make test-deployment"
    folder, python = shared
    (folder / "bin").mkdir(exist_ok=True)
    fedseg = folder / "bin" / "fedseg"
    fedseg.write_text(f'#!/bin/sh\nexec {python} -P -m fedseg "$@"\n', "utf-8")
    fedseg.chmod(0o755)
    with subprocess.Popen(["unshare", "--mount", "--net", "--propagation=private", "sh", "-c", FURNISH]) as holder:
        try:
            end = time.monotonic() + 20
            while not Path(f"/proc/{holder.pid}/root/srv/.ready").exists():
                assert holder.poll() is None, "the machine could not be made"
                assert time.monotonic() < end, "the machine was not made in time"
                time.sleep(0.05)
            made = Machine(holder.pid, folder / "bin")
            yield made
            made.run("fedseg node stop /srv/north; fedseg server stop /srv/fedseg")
        finally:
            holder.kill()


def fingerprint(printed: str, line: str = "fingerprint") -> str:
    """What somebody reads out from what a command printed."""
    found = re.search(rf"^{line} +((?:[0-9a-f]{{4}}-){{7}}[0-9a-f]{{4}})", printed, re.MULTILINE)
    assert found is not None, printed
    return found[1]


def start_server(machine: Machine) -> None:
    """By the commands of the server's page."""
    for name in ("ann", "bob"):
        machine.must(f"fedseg key new {name}.key")
    keys = [
        json.loads(machine.must(f"fedseg key show {name}.key --format json"))["data"]["public_key"]
        for name in ("ann", "bob")
    ]
    for command in commands(SERVER_PAGE, before="## 1."):
        if command.startswith("useradd"):
            machine.must(command)
    first = [
        one
        for one in commands(SERVER_PAGE, after="## 1.", before="## 2.")
        if "server init" in one or "server start" in one
    ]
    for command in first[:2]:
        machine.must(command.replace("PUBLIC-KEY", keys[0], 1).replace("PUBLIC-KEY", keys[1], 1))


def approve_at_the_server(machine: Machine, read_out: str) -> str:
    """The operator's side of the telephone call; what they read to the unit."""
    machine.must("cp /srv/north/request.json .")
    for command in commands(SERVER_PAGE, after="## 2.", before="## 3."):
        machine.must(command.replace("WHAT-THEY-READ", read_out))
    machine.must("cp /srv/fedseg/answers/north.json .")
    return fingerprint(machine.must("fedseg server status /srv/fedseg"))


def customers() -> bytes:
    rows = [f"C{number},{number % 90},{1 + number % 12},{20 * (1 + number % 12)}" for number in range(300)]
    return "\n".join(["customer_id,recency_days,frequency,gross_monetary", *rows, ""]).encode()


def consents() -> bytes:
    now = datetime.now(UTC)
    asked, until = ((now + timedelta(days=days)).isoformat(timespec="seconds") for days in (-60, 670))
    rows = [f"C{number},fedseg:SegmentStatistics,given,{asked},{until},1" for number in range(280)]
    return "\n".join(["identifier,purpose,kind,event_time,valid_until,notice_version", *rows, ""]).encode()


def plan(unit_key: str) -> bytes:
    """What the coordinator sends, once the unit has told its key."""
    names = ("recency_days", "frequency", "gross_monetary")
    features = [{"name": name, "label": name, "lower": 0, "upper": 400, "missing": 0} for name in names]
    budget = {"epsilon": "1/4", "delta": "1/1000000"}
    terms = plan_terms([{"name": "north", "public_key": unit_key}], features=features, budget=budget)
    return tomli_w.dumps(terms).encode()


def test_a_partner_gets_to_a_first_approved_plan_with_the_commands_of_the_page_alone(machine: Machine) -> None:
    start_server(machine)
    machine.write("../data/customers.csv", customers())
    machine.write("consents.csv", consents())
    shutil.copy(ROOT / "policies/minimal.yaml", f"/proc/{machine.pid}/root/srv/home/policy.yaml")
    machine.seconds, heard, printed = 0.0, "", {}
    page = commands(PAGE)

    for command in page:
        if "--plan" in command:
            asked = json.loads(Path(f"/proc/{machine.pid}/root/srv/north/request.json").read_bytes())
            machine.write("plan.toml", plan(asked["unit_key"]))
        printed[command] = machine.must(command.replace("WHAT-THEY-READ", heard))
        if command.startswith("fedseg node request"):
            before = machine.seconds
            heard = approve_at_the_server(machine, fingerprint(printed[command]))
            machine.seconds = before

    said = {
        verb: text for command, text in printed.items() for verb in command.split()[1:3] if command.startswith("fedseg")
    }
    assert "north is ONLINE" in said["status"]
    assert printed[page[-1]].splitlines()[-1] == "approved"
    machine.must("fedseg node stop /srv/north && fedseg server stop /srv/fedseg")
    print(f"{len(page)} commands, {machine.seconds:.0f} s of the machine's time")  # noqa: T201
    assert machine.seconds < 120


def test_the_page_counts_its_commands() -> None:
    page, text = commands(PAGE), PAGE.read_text("utf-8")
    joining = [one for one in page if re.match(r"fedseg node (init|request|check .*--answer|start)", one)]

    assert "takes twelve commands, four of which are the joining itself" in text
    assert (len(page), len(joining)) == (NUMBERS["twelve"], NUMBERS["four"])
