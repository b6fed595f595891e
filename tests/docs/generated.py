"""The parts of the reference that the program writes: help texts, and the tables of errors and of audit faults.

`python -m tests.docs.generated` brings the pages up to date; a test says when that is needed.
"""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import typer.main

from fedseg.audit.faults import Fault
from fedseg.cli.main import app
from fedseg.errors import every_error
from fedseg.policy.document import json_schema as json_schema_of_policies
from fedseg.privacy.entries import json_schema
from tests.docs.transcripts import ROOT, plain_terminal

CLI_PAGE = ROOT / "docs/reference/cli.md"
ERRORS_PAGE = ROOT / "docs/reference/errors.md"
FAULTS_PAGE = ROOT / "docs/reference/audit-faults.md"
SCHEMA_FILE = ROOT / "docs/reference/ledger-entries.schema.json"
POLICY_SCHEMA_FILE = ROOT / "docs/reference/policy.schema.json"

_HELP_BLOCK = re.compile(r"^```text\n\$ (fedseg[a-z -]*) --help\n.*?^```$", re.DOTALL | re.MULTILINE)
_ERROR_TABLE = re.compile(r"^\| Code \|.*?(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)


def every_command() -> list[str]:
    """All command lines without arguments, groups included: `fedseg`, `fedseg demo`, `fedseg plan`, ..."""
    return ["fedseg", *_below(typer.main.get_command(app), "fedseg")]


def _below(command: object, name: str) -> list[str]:
    found: list[str] = []
    for word, inner in getattr(command, "commands", {}).items():
        found += [f"{name} {word}", *_below(inner, f"{name} {word}")]
    return found


def help_text(command: str) -> str:
    """What `COMMAND --help` prints at 80 columns without colour, less blanks at line ends."""
    done = subprocess.run(
        [*command.split(), "--help"], env=plain_terminal(), capture_output=True, text=True, check=True
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").split("\n")).strip("\n")


def help_texts(commands: list[str]) -> dict[str, str]:
    """`help_text` of each command."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands, pool.map(help_text, commands), strict=True))


def with_help(page: str) -> str:
    """The page with every help block as the program prints it now."""
    texts = help_texts(sorted(set(_HELP_BLOCK.findall(page))))
    return _HELP_BLOCK.sub(lambda found: f"```text\n$ {found[1]} --help\n{texts[found[1]]}\n```", page)


def documented_help(page: str) -> list[str]:
    """The commands whose help the page shows."""
    return _HELP_BLOCK.findall(page)


def error_table() -> str:
    """All errors as a Markdown table."""
    rows = [f"| {one.code} | {one.exit_code} | `{one.__name__}` | {one.summary} |" for one in every_error()]
    return "\n".join(["| Code | Exit | Class | Meaning |", "|---|---|---|---|", *rows])


def with_errors(page: str) -> str:
    """The page with the table of errors as the program has it now."""
    return _ERROR_TABLE.sub(lambda _: error_table(), page)


def fault_table() -> str:
    """All faults an audit may find as a Markdown table."""
    rows = [f"| {one} | {one.says} | {one.means} | {one.act[0].upper()}{one.act[1:]}. |" for one in Fault]
    return "\n".join(["| Code | What was found | What it means | What to do |", "|---|---|---|---|", *rows])


def with_faults(page: str) -> str:
    """The page with the table of faults as the program has it now."""
    return _ERROR_TABLE.sub(lambda _: fault_table(), page)


def entries_schema() -> str:
    """The JSON Schema of a unit's entries."""
    return json.dumps(json_schema(), indent=2, sort_keys=True) + "\n"


def policy_schema() -> str:
    """The JSON Schema of a policy."""
    return json.dumps(json_schema_of_policies(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(entries_schema(), encoding="utf-8")
    POLICY_SCHEMA_FILE.write_text(policy_schema(), encoding="utf-8")
    CLI_PAGE.write_text(with_help(CLI_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    ERRORS_PAGE.write_text(with_errors(ERRORS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    FAULTS_PAGE.write_text(with_faults(FAULTS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
