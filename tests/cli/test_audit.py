"""`fedseg audit` as its user meets it: the text, the JSON, the exit codes, and files that nobody should have to trust."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fedseg.audit.archive import Member, Role, pack, unpack
from fedseg.audit.faults import Fault
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.reading import read_ledger
from tests.cli.conftest import Workspace
from tests.small_federation import policy_document


@pytest.fixture
def bundle(workspace: Workspace) -> Path:
    """The bundle of a finished run."""
    ended = workspace.cli.here("audit", "bundle", "--from", workspace.run, "--out", "run.zip")
    assert ended.code == 0, ended.err
    return workspace.cli.folder / "run.zip"


def keys_in(plan: Path) -> dict[str, str]:
    """The units' keys as the plan states them."""
    import tomllib

    return {unit["name"]: unit["public_key"] for unit in tomllib.loads(plan.read_text())["units"]}


def failures(ended: Any) -> list[str]:
    assert ended.code == 9
    envelope = ended.envelope
    assert (envelope["status"], envelope["exit_code"], envelope["data"]["verified"]) == ("error", 9, False)
    assert envelope["error"]["code"] == "E901"
    return [one["code"] for one in envelope["data"]["failures"]]


def test_a_finished_run_is_bundled_and_checks_out(workspace: Workspace, bundle: Path) -> None:
    ended = workspace.cli("audit", "verify", "run.zip")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "everything in it checks out"
    assert "This proves:" in lines
    assert "It cannot prove:" in lines
    assert "identity was taken from the bundle itself" in ended.out
    assert "(the key you named)" not in ended.out


def test_the_same_folder_gives_the_same_file(workspace: Workspace, bundle: Path) -> None:
    ended = workspace.cli.here("audit", "bundle", "--from", workspace.run, "--out", "again.zip", "--format", "json")
    assert (bundle.parent / "again.zip").read_bytes() == bundle.read_bytes()
    data = ended.envelope["data"]
    assert data["bytes"] == bundle.stat().st_size
    with zipfile.ZipFile(bundle) as found:
        assert found.testzip() is None
        assert sorted(one["name"] for one in data["members"]) == found.namelist()[1:]


def test_keys_can_be_given_one_by_one_or_in_a_file(workspace: Workspace, bundle: Path) -> None:
    keys = keys_in(workspace.run / "plan.toml")
    name, key = next(iter(keys.items()))
    one = workspace.cli.here("audit", "verify", bundle, "--key", f"{name}={key}", "--format", "json").envelope["data"]
    assert {log["origin"]: log["key_from"] for log in one["ledgers"]}[f"fedseg/unit/{name}"] == "given"
    (bundle.parent / "keys.txt").write_text(
        "# by telephone\n\n" + "".join(f"{a} = {b}  # ok\n" for a, b in keys.items())
    )
    ended = workspace.cli.here("audit", "verify", bundle, "--keys", "keys.txt")
    assert ended.code == 0
    assert ended.out.count("(the key you named)") == len(keys)
    assert ended.out.count("(named by the bundle itself)") == 1


def test_a_plan_that_came_another_way_vouches_for_its_units(workspace: Workspace, bundle: Path) -> None:
    ended = workspace.cli.here("audit", "verify", bundle, "--keys", workspace.run / "plan.toml")
    assert ended.code == 0
    assert ended.out.count("(the key you named)") == len(keys_in(workspace.run / "plan.toml"))
    other = workspace.cli.here("audit", "verify", bundle, "--keys", workspace.plan, "--format", "json")
    assert set(failures(other)) == {"L1-key"}
    (bundle.parent / "broken.toml").write_text("public_key = 7\n")
    assert workspace.cli.here("audit", "verify", bundle, "--keys", "broken.toml").code == 2


@pytest.mark.parametrize("key", ["north", "north=", "=", "north=abc", "=" + "A" * 43 + "=", "north=\u202e", ""])
def test_a_key_that_is_none_is_a_wrong_command(workspace: Workspace, bundle: Path, key: str) -> None:
    ended = workspace.cli.here("audit", "verify", bundle, "--key", key or " x")
    assert ended.code == 2
    assert ended.error[0].startswith("E201: a key in --key cannot be used")


def test_a_key_may_be_given_as_other_programs_write_it(workspace: Workspace, bundle: Path) -> None:
    ledger = workspace.run / "nodes/north/ledger.db"
    verifier = read_ledger(ledger).verifier_key.to_text()
    data = workspace.cli.here("audit", "verify", bundle, "--key", verifier, "--format", "json").envelope["data"]
    assert [log["key_from"] for log in data["ledgers"] if log["origin"].endswith("north")] == ["given"]
    assert workspace.cli.here("audit", "verify", bundle, "--key", f"{verifier[:-4]}AAA=").code == 2


def test_keys_that_are_no_text_are_a_wrong_command(workspace: Workspace, bundle: Path) -> None:
    (bundle.parent / "keys.txt").write_bytes(b"north = \xff\xfe")
    assert workspace.cli.here("audit", "verify", bundle, "--keys", "keys.txt").code == 2


def test_a_proof_that_cannot_be_kept_is_still_told(workspace: Workspace, bundle: Path) -> None:
    """The folder of the evidence cannot be written to: nothing is lost in silence."""
    (bundle.parent / "second.zip").write_bytes(pack([second_history(workspace)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse_to_write)
        ended = workspace.cli.here("audit", "verify", bundle, "second.zip")
    assert ended.code == 8
    assert "signed two histories of fedseg/unit/north" in ended.error[0]


def refuse_to_write(path: Path, data: bytes) -> int:
    raise OSError(30, "Read-only file system", str(path))


def test_two_keys_for_one_name_are_a_wrong_command(workspace: Workspace, bundle: Path) -> None:
    options = [f"--key=north={SigningKey.generate().public.to_text()}" for _ in range(2)]
    assert workspace.cli.here("audit", "verify", bundle, *options).code == 2


def test_another_key_is_found(workspace: Workspace, bundle: Path) -> None:
    other = SigningKey.generate().public.to_text()
    ended = workspace.cli.here("audit", "verify", bundle, "--key", f"server={other}", "--format", "json")
    assert failures(ended) == ["L1-key", "L1-key"]


def test_a_finding_says_what_it_means_and_what_to_do(workspace: Workspace, bundle: Path) -> None:
    (workspace.run / "nodes/north/policy.yaml").write_bytes(policy_document(min_cohort=1))
    assert workspace.cli.here("audit", "bundle", "--from", workspace.run, "--out", "changed.zip").code == 0
    ended = workspace.cli("audit", "verify", "changed.zip")
    assert ended.code == 9
    fault = Fault.UNLOGGED
    assert ended.out.splitlines()[0] == "FAILED: 1 finding"
    for line in (f"{fault}  units/north/policy.yaml", f"means  {fault.means}", f"do     {fault.act}"):
        assert line in ended.out
    assert "This proves:" not in ended.out
    assert ended.error[0] == "E901: the evidence does not check out"
    assert "Traceback" not in ended.err
    data = workspace.cli.here("audit", "verify", "changed.zip", "--format", "json").envelope["data"]
    assert data["failures"] == [
        {
            "code": "L10-unlogged",
            "what": "the policy is not logged in the ledger of north",
            "where": "units/north/policy.yaml",
            "says": fault.says,
            "means": fault.means,
            "fix": fault.act,
        }
    ]


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_can_be_explained(workspace: Workspace, fault: Fault) -> None:
    for code in (fault.code, fault.code.lower()):
        ended = workspace.cli.here("explain", code, "--format", "json")
        assert ended.envelope["data"] == {
            "code": fault.code,
            "summary": fault.says,
            "means": fault.means,
            "fix": fault.act,
        }
    assert fault.means in workspace.cli.here("explain", fault).out


# Memory and proofs


def test_an_older_copy_is_found_by_who_remembers(workspace: Workspace, bundle: Path) -> None:
    """The unit hands in its ledger as it was before the last release, signed and true."""
    verify = ("audit", "verify", "--remember", "seen.json")
    first = workspace.cli.here(*verify, bundle, "--format", "json").envelope["data"]
    assert first["remembered"] is True
    seen = (bundle.parent / "seen.json").read_bytes()
    assert workspace.cli.here(*verify, bundle).code == 0
    assert (bundle.parent / "seen.json").read_bytes() == seen

    shorter = pack([one if one.name != "units/north/ledger.txt" else older(one) for one in unpack(bundle.read_bytes())])
    (bundle.parent / "shorter.zip").write_bytes(shorter)
    assert "L13-shorter" in failures(workspace.cli.here(*verify, "shorter.zip", "--format", "json"))
    assert (bundle.parent / "seen.json").read_bytes() == seen


def older(ledger: Member) -> Member:
    """The ledger's export, one entry, its checkpoint and its payload ago."""
    from dataclasses import replace

    from fedseg.ledger.export import export_ledger, parse_export

    raw = parse_export(ledger.data)
    last = raw.entries[-1]
    assert last.payload is not None
    payloads = {id_: data for id_, data in raw.payloads.items() if id_ != last.payload.id}
    return Member(
        ledger.name,
        Role.LEDGER,
        export_ledger(replace(raw, entries=raw.entries[:-1], notes=raw.notes[:-1], payloads=payloads)),
    )


def test_a_second_history_is_proved_in_a_file_that_anybody_can_check(workspace: Workspace, bundle: Path) -> None:
    (bundle.parent / "second").mkdir()
    (bundle.parent / "second/run.zip").write_bytes(pack([second_history(workspace)]))
    ended = workspace.cli.here("audit", "verify", bundle, "second/run.zip", "--format", "json")
    assert "L15-fork" in failures(ended)
    (proof,) = ended.envelope["data"]["proofs"]
    assert Path(proof).parent == bundle.parent
    document = json.loads(Path(proof).read_bytes())
    assert (document["kind"], document["origin"]) == ("fedseg-equivocation-proof", "fedseg/unit/north")
    again = workspace.cli.here("audit", "verify", proof, "--format", "json")
    assert failures(again) == ["L15-fork"]
    Path(proof).write_bytes(Path(proof).read_bytes().replace(b"fedseg/unit/north", b"fedseg/unit/south"))
    assert failures(workspace.cli.here("audit", "verify", proof, "--format", "json")) == ["L15-no-proof"]


def second_history(workspace: Workspace) -> Member:
    """A ledger that the unit's key has signed for somebody else."""
    from fedseg.ledger.export import export_ledger
    from fedseg.node.home import NodeHome
    from tests.forged_ledger import Forgery

    home = NodeHome.open(workspace.run / "nodes/north")
    with home.ledger() as ledger:
        forgery = Forgery.of(ledger, home.key, role="unit", unit="north")
    forgery.line("approval").body["source_sha256"] = "ab" * 32
    return Member(
        "units/north/ledger.txt",
        Role.LEDGER,
        export_ledger(read_ledger(forgery.write(workspace.cli.folder / "second.db"))),
    )


def test_a_damaged_memory_is_a_wrong_command(workspace: Workspace, bundle: Path) -> None:
    (bundle.parent / "seen.json").write_text("{}")
    ended = workspace.cli.here("audit", "verify", bundle, "--remember", "seen.json")
    assert ended.code == 2
    assert (bundle.parent / "seen.json").read_text() == "{}"


# Files that are none


GARBAGE = [b"", b"PK", b"PK\3\4" + bytes(100), b"\x7fELF" + bytes(50), b"{}", b"[" * 100_000, b"\xff\xfe" * 100]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("format_", ["text", "json"])
def test_garbage_is_refused_with_a_reason(workspace: Workspace, data: bytes, format_: str) -> None:
    (workspace.cli.folder / "gar\u00e8ge.zip").write_bytes(data)
    ended = workspace.cli.here("audit", "verify", "gar\u00e8ge.zip", "--format", format_)
    assert ended.code == 9
    if format_ == "json":
        assert ended.envelope["data"]["failures"][0]["code"] in {"B1-archive", "B1-size"}
    else:
        assert len(ended.error) == 3
        assert "Traceback" not in ended.err


def test_what_is_not_there_or_a_folder_is_refused(workspace: Workspace) -> None:
    for place in ("missing.zip", "."):
        ended = workspace.cli.here("audit", "verify", place)
        assert ended.code == 8
        assert "cannot be read" in ended.error[0]
    assert workspace.cli.here("audit", "bundle", "--from", "missing", "--out", "run.zip").code == 2
    (workspace.cli.folder / "empty").mkdir()
    ended = workspace.cli.here("audit", "bundle", "--from", "empty", "--out", "run.zip")
    assert (ended.code, ended.error[0]) == (2, "E201: empty holds no evidence")
    assert workspace.cli.here("audit", "bundle", "--from", workspace.run, "--out", "no/such/run.zip").code == 8
    assert not (workspace.cli.folder / "run.zip").exists()


def test_random_bytes_of_a_large_bundle_are_found(workspace: Workspace, bundle: Path) -> None:
    data, coins = bundle.read_bytes(), random.Random(3)
    for _ in range(40):
        changed = bytearray(data)
        changed[coins.randrange(len(data))] ^= coins.randrange(1, 256)
        bundle.write_bytes(changed)
        assert set(failures(workspace.cli.here("audit", "verify", bundle, "--format", "json"))) <= {
            "B1-archive",
            "B1-size",
            "B3-member",
        }


def test_a_hostile_text_does_not_reach_the_terminal(workspace: Workspace, bundle: Path) -> None:
    """What a hostile owner writes into a member is quoted by errors; no control character of it is printed."""
    hostile = "\x1b[2J\x9b31m\u202e".encode()
    members = [
        Member("units/north/policy.yaml", Role.POLICY, b"purposes: '" + hostile + b"'\n" + hostile + b": 1\n"),
        Member("plan.toml", Role.PLAN, b'name = "' + hostile + b'"\n'),
        *(one for one in unpack(bundle.read_bytes()) if one.role is Role.LEDGER),
    ]
    (bundle.parent / "hostile.zip").write_bytes(pack(members))
    for format_ in ("text", "json"):
        ended = workspace.cli.here("audit", "verify", "hostile.zip", "--format", format_)
        assert ended.code == 9
        assert not set("\x1b\x9b\u202e") & set(ended.out + ended.err)


def test_a_home_that_has_approved_nothing_has_nothing_to_hide(workspace: Workspace) -> None:
    assert workspace.cli.here("audit", "bundle", "--from", workspace.home(), "--out", "home.zip").code == 0
    assert workspace.cli.here("audit", "verify", "home.zip").code == 0
