"""The reference names every command, error, key, field and byte that the program has, and none that it has not."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from fedseg.audit.verify import verify_ledger
from fedseg.clustering.request import REQUEST_HEADER
from fedseg.errors import every_error
from fedseg.ledger.canonical import Json
from fedseg.node.consent.mapping import ConsentMapping, EndRule, EventRule, TextRule, TimeRule
from fedseg.node.home import NodeSettings
from fedseg.plan import Plan
from fedseg.policy.consent import EVENT_KINDS, RECORDED_VETOES
from fedseg.policy.document import Policy
from fedseg.policy.uses import Use
from fedseg.privacy.entries import UNIT_KINDS
from fedseg.privacy.release import HEADER, NOISE_SOURCES, SIGNATURE_BYTES
from fedseg.simulation.runner import RunResult
from fedseg.simulation.scenario import Scenario
from tests.docs.generated import (
    CLI_PAGE,
    ERRORS_PAGE,
    FAULTS_PAGE,
    POLICY_SCHEMA_FILE,
    SCHEMA_FILE,
    documented_help,
    entries_schema,
    error_table,
    every_command,
    fault_table,
    policy_schema,
    with_errors,
    with_faults,
    with_help,
)
from tests.docs.transcripts import PAGES, ROOT

pytestmark = pytest.mark.docs

REFERENCE = ROOT / "docs/reference"
SOURCES = sorted((ROOT / "fedseg").rglob("*.py"))

_COMMAND_IN_PAGE = re.compile(r"(?:`|\$ |\$\()fedseg((?: [a-z][a-z-]*)*)")
_COMMAND_IN_SOURCE = re.compile(r"`fedseg((?: [a-z]+)+)|fix=f?\"[^\"]*fedseg((?: [a-z]+)+)")


def cells(text: str, column: int = 0) -> list[str]:
    """What stands in a column of the tables in `text`, headings left out."""
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row[column].strip() for row in rows]


def keys(text: str) -> list[str]:
    """The names in backticks in the first column."""
    return [name for cell in cells(text) for name in re.findall(r"`([^`]+)`", cell)]


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    return re.split(r"^#+ ", text.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def dotted_keys(model: type[BaseModel]) -> Iterator[str]:
    """All keys of a file with this schema: `a.b`, `list[].key`, `mapping.*.key`."""
    for name, info in model.model_fields.items():
        key = info.alias or name
        suffix, inner = _inner(info.annotation)
        if not inner:
            yield key
        else:
            # Of several models that may stand there, each key once.
            below = dict.fromkeys(below for one in inner for below in dotted_keys(one))
            yield from (f"{key}{suffix}.{one}" for one in below)


def _inner(annotation: Any) -> tuple[str, list[type[BaseModel]]]:
    """The models inside an annotation, and what has to be written between its name and their keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "", [annotation]
    origin = get_origin(annotation)
    own = "[]" if origin in (tuple, list) else ".*" if origin in (dict, Mapping) else ""
    parts = [_inner(part) for part in get_args(annotation)]
    suffixes = [suffix for suffix, models in parts if models]
    return own + (suffixes[0] if suffixes else ""), [model for _, models in parts for model in models]


def test_the_help_of_every_command_is_in_the_reference_as_printed() -> None:
    page = CLI_PAGE.read_text(encoding="utf-8")
    assert documented_help(page) == every_command()
    assert with_help(page) == page, "run: python -m tests.docs.generated"


def test_the_table_of_errors_is_that_of_the_program() -> None:
    page = ERRORS_PAGE.read_text(encoding="utf-8")
    assert error_table() in page
    assert with_errors(page) == page, "run: python -m tests.docs.generated"


def test_the_table_of_audit_faults_is_that_of_the_program() -> None:
    page = FAULTS_PAGE.read_text(encoding="utf-8")
    assert fault_table() in page
    assert with_faults(page) == page, "run: python -m tests.docs.generated"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_command_and_code_on_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    commands = set(every_command())
    groups = {command.rpartition(" ")[0] for command in commands}
    for found in _COMMAND_IN_PAGE.findall(text):
        # Arguments may follow a command without further words, but never a group.
        command = next(name for name in _prefixes(f"fedseg{found}") if name in commands)
        assert command == f"fedseg{found}" or command not in groups, found
    codes = {error.code for error in every_error()} | {"E999"}
    assert set(re.findall(r"\bE[1-9]\d\d\b", text)) <= codes


def _prefixes(line: str) -> Iterator[str]:
    words = line.split()
    return (" ".join(words[:length]) for length in range(len(words), 0, -1))


def test_every_command_that_an_error_recommends_exists() -> None:
    commands = set(every_command())
    for source in SOURCES:
        for found in _COMMAND_IN_SOURCE.findall(source.read_text(encoding="utf-8")):
            assert f"fedseg{''.join(found)}" in commands, (source, found)


@pytest.mark.parametrize(
    ("page", "heading", "model"),
    [
        ("reference/plan.md", "# Plan", Plan),
        ("reference/policy.md", "# Policy", Policy),
        ("reference/scenario.md", "# Scenario", Scenario),
    ],
)
def test_every_key_of_a_file_is_in_its_reference(page: str, heading: str, model: type[BaseModel]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert sorted(keys(section(text, heading))) == sorted(dotted_keys(model))


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("# Consent mapping", ConsentMapping),
        ("## Events", EventRule),
        ("## A text", TextRule),
        ("## A time", TimeRule),
        ("## An end", EndRule),
    ],
)
def test_every_key_of_a_part_of_a_consent_mapping_is_in_the_reference(heading: str, model: type[BaseModel]) -> None:
    text = (REFERENCE / "consent-mapping.md").read_text(encoding="utf-8")
    assert keys(section(text, heading)) == list(model.model_fields)


def test_every_key_of_node_toml_is_explained() -> None:
    text = (ROOT / "docs/how-to/approve-a-plan.md").read_text(encoding="utf-8")
    table = text.partition("Change it with any editor:")[2].partition("If a customer")[0]
    assert sorted(keys(table)) == sorted(dotted_keys(NodeSettings))


def test_every_field_of_every_kind_of_entry_is_in_the_reference(run: RunResult) -> None:
    page = (REFERENCE / "ledger-format.md").read_text(encoding="utf-8")
    written: dict[str, set[str]] = {}
    for facts in (*run.units, verify_ledger(run.out / "server/ledger.db")):
        for entry in facts.raw.entries:
            written.setdefault(f"{facts.role}: {entry.kind}", set()).update(_fields(entry.body))
    fields = {"unit: genesis": written["unit: genesis"]}
    fields |= {f"unit: {kind}": set(dotted_keys(body)) for kind, body in UNIT_KINDS.items()}
    fields |= {kind: found for kind, found in written.items() if kind.startswith("server: ")}
    # What these hold has other names for each policy, mechanism and lattice.
    fields["unit: policy"] -= {"purpose_rho_caps", "approvals.officers"}
    fields["unit: policy"] |= {"purpose_rho_caps.*", "approvals.officers.*"}
    named = {name for name in written["unit: release"] if name.startswith(("lattice.", "mechanism."))}
    fields["unit: release"] = fields["unit: release"] - {"lattice", "mechanism"} | named
    assert re.findall(r"^### (\w+: \w+)$", page, re.MULTILINE) == list(fields)
    for kind, found in fields.items():
        assert set(keys(section(page, f"### {kind}"))) == found, kind


def test_the_schema_of_entries_is_that_of_the_program() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == entries_schema(), "run: python -m tests.docs.generated"


def test_the_schema_of_policies_is_that_of_the_program() -> None:
    assert POLICY_SCHEMA_FILE.read_text(encoding="utf-8") == policy_schema(), "run: python -m tests.docs.generated"


def test_the_forbidden_uses_in_the_reference_are_those_of_the_program() -> None:
    text = section((REFERENCE / "policy.md").read_text(encoding="utf-8"), "## Forbidden uses")
    assert dict(zip(keys(text), cells(text, 1)[1:], strict=True)) == {use.value: use.says for use in Use}


def test_the_kinds_of_events_in_the_reference_are_those_of_the_program() -> None:
    page = (REFERENCE / "policy.md").read_text(encoding="utf-8")
    lines = [line for line in section(page, "## Consent events").splitlines() if line.startswith("| `")]
    named = {kind for line in lines[7:] for kind in re.findall(r"`([a-z_]+)`", line.split(" | ")[0])}
    assert named | {f"{str(veto.name).lower()}_lifted" for veto in RECORDED_VETOES} == EVENT_KINDS


def _fields(body: Mapping[str, Json]) -> Iterator[str]:
    for name, value in body.items():
        if isinstance(value, dict) and value:
            yield from (f"{name}.{below}" for below in value)
        else:
            yield name


def test_the_bytes_of_a_release_lie_where_the_reference_says(run: RunResult) -> None:
    page = (REFERENCE / "ledger-format.md").read_text(encoding="utf-8")
    sizes = _sizes_of_header(section(page, "## The bytes of a release"))
    assert sizes == [16, 32, 32, 32, 4, 4, 4, 4, 4]
    assert sum(sizes) == HEADER.size
    for facts in run.units:
        for entry in facts.raw.entries:
            if entry.kind == "release":
                data = facts.raw.payloads[f"release:{entry.body['release_id']}"]
                assert data[16:48].hex() == entry.body["release_id"]
                step = int.from_bytes(data[116:120], "big")
                assert step == entry.body["step"]
                assert int.from_bytes(data[120:124], "big") == entry.body["cells"]
                assert NOISE_SOURCES[int.from_bytes(data[128:132], "big")] == entry.body["noise_source"]
                assert int.from_bytes(data[124:128], "big") == entry.body["width"]
                assert len(data) == 132 + 8 * run.plan.terms[step].length + SIGNATURE_BYTES


def test_the_bytes_of_a_request_lie_where_the_reference_says() -> None:
    page = (REFERENCE / "wire.md").read_text(encoding="utf-8")
    sizes = _sizes_of_header(section(page, "## Request"))
    assert sizes == [16, 32, 4, 4, 4]
    assert sum(sizes) == REQUEST_HEADER.size


def _sizes_of_header(text: str) -> list[int]:
    """Sizes of the fields whose place is a number, after a look at whether they follow one another."""
    offsets, sizes = cells(text), cells(text, 1)
    found = [int(size) for size in sizes if size.isdecimal() and offsets[sizes.index(size)].isdecimal()]
    fixed = [(int(offset), size) for offset, size in zip(offsets, sizes, strict=True) if offset.isdecimal()]
    place = 0
    for offset, size in fixed:
        assert offset == place
        place += int(size) if size.isdecimal() else 0
    return found


def test_every_term_of_the_glossary_is_used_and_stands_once_in_order() -> None:
    terms = cells((REFERENCE / "glossary.md").read_text(encoding="utf-8"))[1:]
    assert terms == sorted(set(terms), key=str.lower)
    code = "\n".join(source.read_text(encoding="utf-8") for source in SOURCES)
    for term in terms:
        pattern = re.escape(term).replace(r"\ ", r"[\s_-]+").replace(r"\-", r"[\s_-]")
        assert re.search(rf"(?<![A-Za-z]){pattern}", code, re.IGNORECASE), term
