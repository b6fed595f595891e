"""The runner answers with installed code only: a bundle is hashed, compared, and neither written nor unpacked."""

import gc
import hashlib
import io
import logging
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.proto.message_pb2 import ObjectTree

from fedseg.clustering.request import request_bytes
from fedseg.errors import UnreachableError
from fedseg.federation import wire
from fedseg.federation.client_app import make_client_app
from fedseg.federation.flower.bundle import stub_bundle, stub_sha256
from fedseg.federation.flower.messages import largest_body_bytes
from fedseg.federation.flower.services import PARTS_SECONDS, UnitStore
from fedseg.federation.flower.sockets import OneLine
from fedseg.federation.flower.tasks import NodeTasks
from fedseg.federation.runner import LEAST_SLOT_SECONDS, answer
from fedseg.federation.witness_wire import WITNESS_TYPE, decode_said, encode_asked
from fedseg.node.witnessing import Asked
from fedseg.server.contribution import payload_bytes
from tests.federation.small_supernode import SmallSuperNode, small_supernode
from tests.federation.stub_source import FILES, REFUSAL
from tests.small_federation import SmallFederation, make_federation, some_request


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SmallSuperNode]:
    with small_supernode(tmp_path / "runtime.sock") as made:
        yield made


@pytest.fixture
def federation(tmp_path: Path) -> SmallFederation:
    return make_federation(tmp_path / "federation", {"north": 40, "south": 30}).approve_all()


def bundle(**files: str) -> bytes:
    """A bundle of these modules, as anyone can make one."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)
    return packed.getvalue()


def run_one(node: SmallSuperNode, federation: SmallFederation, allowed: set[str] | None = None) -> bytes:
    """Let the runner of the unit north take one task, and read what it hands back."""
    with NodeTasks(node.socket) as tasks:
        task = tasks.acquire()
        assert task is not None
        try:
            home = federation.home("north").path
            task.reply(answer(make_client_app(), home, task, frozenset(allowed or {stub_sha256()})))
        finally:
            task.close()
    (reply,) = node.replies()
    return reply


def asked(federation: SmallFederation) -> bytes:
    return request_bytes(federation.plan.digest, some_request(federation.plan, 0))


def test_an_allowed_bundle_gets_a_release_from_the_units_own_home(
    node: SmallSuperNode, federation: SmallFederation
) -> None:
    node.ask(asked(federation), bundle=stub_bundle())
    reply = run_one(node, federation)
    contribution = wire.decode(reply, federation.plan)
    assert not isinstance(contribution, wire.Unavailable)
    assert contribution.unit == "north"  # whatever home and settings came with the message


def test_another_bundle_is_refused_with_the_word_for_no_and_its_code_does_not_run(
    node: SmallSuperNode, federation: SmallFederation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trace = tmp_path / "it-ran"
    hostile = bundle(client=f"open({str(trace)!r}, 'w')", sitecustomize=f"open({str(trace)!r}, 'w')")
    node.ask(asked(federation), bundle=hostile)
    with caplog.at_level(logging.ERROR):
        assert run_one(node, federation) == wire.encode_unavailable()
    assert "E710" in caplog.text
    assert not trace.exists()
    with federation.home("north").ledger() as ledger:
        assert "release" not in {entry.kind for entry in ledger.entries()}


def test_a_bundle_under_another_ones_hash_does_not_even_get_into_the_node(
    node: SmallSuperNode, federation: SmallFederation
) -> None:
    with pytest.raises(ValueError, match="hash mismatch"):
        node.ask(asked(federation), bundle=bundle(client="pass"), claimed_hash=stub_sha256())


def test_a_unit_may_allow_another_bundle_by_its_hash(node: SmallSuperNode, federation: SmallFederation) -> None:
    other = bundle(client="raise SystemExit")
    node.ask(asked(federation), bundle=other)
    reply = run_one(node, federation, {hashlib.sha256(other).hexdigest()})
    assert not isinstance(wire.decode(reply, federation.plan), wire.Unavailable)


def test_across_a_network_a_reply_waits_for_a_slot_even_if_the_plan_has_none(
    node: SmallSuperNode, federation: SmallFederation
) -> None:
    assert federation.plan.reply_slot_seconds == 0
    node.ask(asked(federation), bundle=stub_bundle())
    app = make_client_app(least_slot_seconds=LEAST_SLOT_SECONDS)
    with NodeTasks(node.socket) as tasks:
        task = tasks.acquire()
        assert task is not None
        started = time.monotonic()
        answer(app, federation.home("north").path, task, frozenset({stub_sha256()}))
        assert time.monotonic() - started >= LEAST_SLOT_SECONDS
        task.close()


@pytest.mark.parametrize("message_type", ["train", "query", "query.other", "evaluate.release"])
def test_a_message_of_another_kind_gets_the_word_for_no(
    message_type: str, node: SmallSuperNode, federation: SmallFederation
) -> None:
    node.ask(asked(federation), bundle=stub_bundle(), message_type=message_type)
    assert run_one(node, federation) == wire.encode_unavailable()


def test_a_message_about_witnessing_is_answered_by_installed_code_alone_and_holds_no_release(
    node: SmallSuperNode, federation: SmallFederation
) -> None:
    request = encode_asked(Asked(federation.plan.digest))
    node.ask(request, bundle=stub_bundle(), message_type=WITNESS_TYPE)
    said = decode_said(run_one(node, federation))
    assert said.growth[0].startswith("old 0\n\nfedseg/unit/north\n")
    node.ask(request, bundle=bundle(client="pass"), message_type=WITNESS_TYPE)
    assert run_one(node, federation) == wire.encode_unavailable()


def test_a_part_of_a_reply_that_does_not_come_is_not_waited_for_without_end() -> None:
    now = 100.0
    store = UnitStore(lambda: now)
    store.preregister(1, ObjectTree(object_id="a" * 64))
    assert store.get("a" * 64) == b""
    now += PARTS_SECONDS
    assert store.get("a" * 64) == b""
    now += 1
    with pytest.raises(TimeoutError):
        store.get("a" * 64)


def test_a_peers_words_make_no_second_line_in_a_log() -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "group %s", ("x\n2026 ERROR forged\x1b[2J\u202e",), None)
    assert OneLine().format(record).endswith(r"group x\n2026 ERROR forged\x1b[2J\u202e")


def test_nothing_of_a_bundle_is_written(
    node: SmallSuperNode, federation: SmallFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "flower-home"
    home.mkdir()
    monkeypatch.setenv("FLWR_HOME", str(home))
    monkeypatch.chdir(home)
    node.ask(asked(federation), bundle=stub_bundle())
    run_one(node, federation)
    assert list(home.rglob("*")) == []


def test_the_largest_body_is_what_flower_makes_of_the_plans_largest_reply(federation: SmallFederation) -> None:
    largest = max(payload_bytes(terms) for terms in federation.plan.terms)
    assert largest < largest_body_bytes(federation.plan) < largest + 1024


def test_the_stub_holds_no_logic() -> None:
    with zipfile.ZipFile(io.BytesIO(stub_bundle())) as packed:
        code = {name: packed.read(name) for name in packed.namelist() if name.endswith(".py")}
    assert code == {"stub/__init__.py": b"", "stub/app.py": REFUSAL}
    assert code["stub/app.py"] == FILES["stub/app.py"]


def test_importing_the_stubs_app_fails(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(stub_bundle())) as packed:
        packed.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import stub.app"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "ImportError" in done.stderr


def test_a_socket_that_nobody_listens_on_is_said_to_be_so(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # httpcore leaves a socket that failed to connect to the collector
        with NodeTasks(tmp_path / "x.sock") as tasks, pytest.raises(UnreachableError, match=r"nobody answers at .*x\."):
            tasks.acquire()
        gc.collect()


@pytest.mark.parametrize("where", ["main", "thread", "finalizer"])
def test_whatever_ends_the_runner_leaves_no_text_of_an_exception(where: str) -> None:
    program = f"""
import sys, threading
from fedseg.federation.runner import withhold_exception_texts
withhold_exception_texts()
def fail(): raise ValueError("customer 4711-secret")
class Failing:
    def __del__(self): fail()
if {where!r} == "main": fail()
elif {where!r} == "thread": t = threading.Thread(target=fail); t.start(); t.join()
else: Failing()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "4711" not in done.stdout + done.stderr
    assert "stopped by ValueError" in done.stderr
