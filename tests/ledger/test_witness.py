"""A witness: it cosigns what extends what it cosigned, remembers before it speaks, and answers as c2sp.org/tlog-witness."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pytest

from fedseg.errors import KeyFileError, SettingsError, StorageError
from fedseg.ledger import witness as module
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.cosignature import cosign
from fedseg.ledger.keys import MlDsaSigningKey, SigningKey
from fedseg.ledger.merkle import EMPTY_ROOT, Tree, leaf_hash
from fedseg.ledger.notes import SignatureType, sign_note
from fedseg.ledger.proof import ConsistencyProof
from fedseg.ledger.verifier_keys import VerifierKey, open_signed
from fedseg.ledger.witness import LOGS_MAX, REQUEST_LIMIT_BYTES, STATE_FILE, Answer, WatchedLog, Witness

ORIGIN = "unit.example/ledger"
NAME = "witness.example/w1"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OK, CONFLICT, UNPROCESSABLE = HTTPStatus.OK, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY


class Log:
    """A log of numbered leaves that can be forked at any place."""

    def __init__(self, key: SigningKey, origin: str = ORIGIN) -> None:
        self.key, self.origin = key, origin

    @property
    def verifier_key(self) -> VerifierKey:
        return VerifierKey(self.origin, SignatureType.ED25519, self.key.public)

    def tree(self, size: int, forked_at: int | None = None) -> Tree:
        forked = size if forked_at is None else forked_at
        return Tree(leaf_hash(f"{n}{'-other' if n >= forked else ''}".encode()) for n in range(size))

    def note(self, size: int, forked_at: int | None = None) -> str:
        return sign_checkpoint(Checkpoint(self.origin, size, self.tree(size, forked_at).root()), self.key)

    def request(self, old: int, size: int, forked_at: int | None = None) -> bytes:
        hashes = self.tree(size, forked_at).consistency_proof(old) if 0 < old <= size else []
        return ConsistencyProof(old, tuple(hashes), self.note(size, forked_at)).to_text().encode()


@pytest.fixture
def log(key: SigningKey) -> Log:
    return Log(key)


@pytest.fixture
def witness(tmp_path: Path, other_key: SigningKey, log: Log) -> Witness:
    made = Witness.create(tmp_path / "witness", NAME, other_key)
    made.enrol(log.verifier_key)
    return made


def seen(witness: Witness, origin: str = ORIGIN) -> int:
    return witness.logs()[origin].newest.size


def test_a_log_that_grows_is_cosigned_each_time_and_the_word_holds(witness: Witness, log: Log) -> None:
    old = 0
    for size in (1, 2, 7, 8, 100):
        answer = witness.add_checkpoint(log.request(old, size), NOW)
        opened = open_signed(log.note(size) + answer.body, [log.verifier_key, witness.verifier_key])
        word = opened.by(witness.verifier_key)
        assert answer.status is OK
        assert word is not None
        assert word.timestamp == int(NOW.timestamp())
        assert seen(Witness.open(witness.path)) == size
        old = size


def test_the_same_checkpoint_is_cosigned_again_with_the_time_of_now(witness: Witness, log: Log) -> None:
    first = witness.add_checkpoint(log.request(0, 5), NOW)
    again = witness.add_checkpoint(log.request(5, 5), NOW + timedelta(hours=1))
    assert (first.status, again.status) == (OK, OK)
    assert first.body != again.body


def test_signatures_of_others_on_a_checkpoint_are_neither_believed_nor_kept(witness: Witness, log: Log) -> None:
    stranger = cosign(log.note(3), "stranger.example/w", SigningKey.generate(), NOW)
    answer = witness.add_checkpoint(ConsistencyProof(0, (), stranger).to_text().encode(), NOW)
    assert answer.status is OK
    assert "stranger" not in witness.logs()[ORIGIN].note


@pytest.mark.parametrize(
    ("submitted", "status", "body"),
    [
        ((0, 9), CONFLICT, "8\n"),
        ((7, 9), CONFLICT, "8\n"),
        ((4, 7), CONFLICT, "8\n"),
        ((7, 7), CONFLICT, "8\n"),
        ((0, 0), CONFLICT, "8\n"),
        ((8, 8, 3), CONFLICT, "8\n"),
        ((8, 9, 3), UNPROCESSABLE, None),
        ((8, 100, 7), UNPROCESSABLE, None),
        ((9, 8), HTTPStatus.BAD_REQUEST, None),
    ],
)
def test_what_does_not_extend_what_was_cosigned_gets_the_status_of_the_specification(
    witness: Witness, log: Log, submitted: tuple[int, ...], status: HTTPStatus, body: str | None
) -> None:
    witness.add_checkpoint(log.request(0, 8), NOW)
    remembered = (witness.path / STATE_FILE).read_bytes()
    answer = witness.add_checkpoint(log.request(*submitted), NOW)
    assert answer.status is status
    assert body is None or answer.body == body
    assert (witness.path / STATE_FILE).read_bytes() == remembered


def test_two_histories_of_one_size_come_back_as_two_checkpoints_that_the_log_has_signed(
    witness: Witness, log: Log
) -> None:
    witness.add_checkpoint(log.request(0, 8), NOW)
    answer = witness.add_checkpoint(log.request(8, 8, 3), NOW)
    assert answer.contradicted == (log.note(8), log.note(8, 3))
    assert witness.add_checkpoint(log.request(0, 8, 5), NOW).contradicted == (log.note(8), log.note(8, 5))


def test_a_log_without_entries_has_one_root(witness: Witness, log: Log) -> None:
    other = sign_checkpoint(Checkpoint(ORIGIN, 0, leaf_hash(b"")), log.key)
    refused = witness.add_checkpoint(ConsistencyProof(0, (), other).to_text().encode(), NOW)
    assert (refused.status, refused.contradicted) == (CONFLICT, None)
    assert witness.add_checkpoint(log.request(0, 0), NOW).status is OK
    assert witness.logs()[ORIGIN].newest == Checkpoint(ORIGIN, 0, EMPTY_ROOT)


def test_only_enrolled_logs_and_their_own_signatures_are_taken(witness: Witness, log: Log) -> None:
    stranger = Log(SigningKey.generate())
    elsewhere = Log(log.key, "elsewhere.example/ledger")
    assert witness.add_checkpoint(elsewhere.request(0, 3), NOW).status is HTTPStatus.NOT_FOUND
    assert witness.add_checkpoint(stranger.request(0, 3), NOW).status is HTTPStatus.FORBIDDEN
    assert seen(witness) == 0


def test_a_log_may_replace_its_key_and_must_go_on_from_where_it_was(witness: Witness, log: Log) -> None:
    witness.add_checkpoint(log.request(0, 8), NOW)
    newer = Log(SigningKey.generate())
    witness.enrol(newer.verifier_key, newer.verifier_key)
    assert witness.add_checkpoint(newer.request(0, 3), NOW).body == "8\n"
    assert witness.add_checkpoint(newer.request(8, 9), NOW).status is OK
    assert len(witness.logs()[ORIGIN].keys) == 2


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"old 0\n",
        b"old 0\n\n",
        b"old 00\n\nx",
        b"old -1\n\nx",
        b"\xff\xfe",
        b"old 0\n" + b"A" * REQUEST_LIMIT_BYTES,
        b"old 0\n\n" + b"a\n" * REQUEST_LIMIT_BYTES,
    ],
)
def test_what_is_no_request_is_a_bad_request(witness: Witness, request_: bytes) -> None:
    assert witness.add_checkpoint(request_, NOW).status is HTTPStatus.BAD_REQUEST


def test_a_request_that_is_too_long_is_a_bad_request_even_if_its_beginning_is_one(witness: Witness, log: Log) -> None:
    extension = "x" * REQUEST_LIMIT_BYTES
    text = log.request(0, 3).decode().replace("\n\n— ", f"\n{extension}\n\n— ")
    assert witness.add_checkpoint(text.encode(), NOW).status is HTTPStatus.BAD_REQUEST
    whole = log.request(0, 3)
    assert witness.add_checkpoint(whole + b" " * REQUEST_LIMIT_BYTES, NOW).status is HTTPStatus.BAD_REQUEST


def test_more_than_63_hashes_or_a_hash_of_another_length_is_a_bad_request(witness: Witness, log: Log) -> None:
    for hashes in ((bytes(32),) * 64, (bytes(31),)):
        request = ConsistencyProof(0, hashes, log.note(3)).to_text().encode()
        assert witness.add_checkpoint(request, NOW).status is HTTPStatus.BAD_REQUEST


def test_requests_at_once_never_lead_it_back(witness: Witness, log: Log) -> None:
    witness.add_checkpoint(log.request(0, 1), NOW)
    answers: list[Answer] = []

    def submit(size: int, forked_at: int | None) -> None:
        answers.append(Witness.open(witness.path).add_checkpoint(log.request(1, size, forked_at), NOW))

    threads = [threading.Thread(target=submit, args=(size, 1 if size % 2 else None)) for size in range(2, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.status for one in answers].count(OK) == 1
    assert [one.status for one in answers].count(CONFLICT) == len(threads) - 1
    assert seen(witness) > 1


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from fedseg.ledger.witness import Witness

calls, deadly, of = 0, int(sys.argv[3]), sys.argv[4]
real = getattr(os, of)

def die(*given, **named):
    global calls
    calls += 1
    if calls == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **named)

setattr(os, of, die)
answer = Witness.open(Path(sys.argv[1])).add_checkpoint(Path(sys.argv[2]).read_bytes(), datetime.now(UTC))
print(answer.status, end="", flush=True)
"""


@pytest.mark.parametrize("moment", [(2, "open"), (4, "open"), (1, "fsync"), (1, "replace"), (2, "fsync")])
def test_killed_at_any_moment_it_has_said_nothing_that_it_does_not_remember(
    witness: Witness,
    log: Log,
    tmp_path: Path,
    moment: tuple[int, str],
    run_python: Callable[..., "subprocess.Popen[str]"],
) -> None:
    witness.add_checkpoint(log.request(0, 4), NOW)
    (tmp_path / "request").write_bytes(log.request(4, 6))
    with run_python(KILLED, witness.path, tmp_path / "request", *moment) as process:
        said, _ = process.communicate(timeout=30)
    assert (said, process.returncode) == ("", -signal.SIGKILL)
    # The next one goes on from one of the two, and from nothing else.
    old = seen(witness)
    assert old in (4, 6)
    assert witness.add_checkpoint(log.request(old, 9), NOW).status is OK


def test_a_witness_that_cannot_write_does_not_sign(witness: Witness, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        witness.add_checkpoint(log.request(0, 4), NOW)
    monkeypatch.undo()
    assert seen(witness) == 0


def test_a_witness_without_its_memory_does_not_begin_anew(witness: Witness, log: Log) -> None:
    whole = (witness.path / STATE_FILE).read_bytes()
    for damage in (b"", b"{}\n", whole[:-3], whole.replace(b"logs", b"lugs"), whole.replace(b'"note":""', b'"note":1')):
        (witness.path / STATE_FILE).write_bytes(damage)
        with pytest.raises(SettingsError, match="witness remembers"):
            witness.add_checkpoint(log.request(0, 4), NOW)
    (witness.path / STATE_FILE).unlink()
    with pytest.raises(SettingsError, match="witness remembers"):
        Witness.open(witness.path)


def test_a_remembered_checkpoint_that_the_log_has_not_signed_is_not_read(witness: Witness, log: Log) -> None:
    witness.add_checkpoint(log.request(0, 4), NOW)
    text = (witness.path / STATE_FILE).read_text("utf-8")
    (witness.path / STATE_FILE).write_text(text.replace("\\n4\\n", "\\n3\\n"), "utf-8")
    with pytest.raises(SettingsError, match="witness remembers"):
        witness.logs()
    with pytest.raises(ValueError, match="another log"):
        WatchedLog(
            "elsewhere.example/ledger",
            (VerifierKey("elsewhere.example/ledger", SignatureType.ED25519, log.key.public),),
            sign_note(Checkpoint(ORIGIN, 0, EMPTY_ROOT).to_text(), "elsewhere.example/ledger", log.key),
        )


def test_a_key_that_signs_no_log_is_not_enrolled(witness: Witness, log: Log) -> None:
    for key in (
        VerifierKey(NAME, SignatureType.ED25519_COSIGNATURE, SigningKey.generate().public),
        VerifierKey(NAME, SignatureType.ML_DSA_44_COSIGNATURE, MlDsaSigningKey.generate().public),
        VerifierKey(NAME, SignatureType.ED25519, witness.key.public),
    ):
        with pytest.raises(SettingsError, match="not enrolled"):
            witness.enrol(key)
    with pytest.raises(ValueError, match="1 to 16 keys"):
        WatchedLog("elsewhere.example/ledger", (log.verifier_key,))


def test_a_witness_watches_a_bounded_number_of_logs_and_keys(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGS_MAX", 2)
    assert LOGS_MAX > 2
    witness.enrol(Log(SigningKey.generate(), "second.example/ledger").verifier_key)
    with pytest.raises(SettingsError, match="not enrolled"):
        witness.enrol(Log(SigningKey.generate(), "third.example/ledger").verifier_key)
    with pytest.raises(SettingsError, match="not enrolled"):
        witness.enrol(*(Log(SigningKey.generate()).verifier_key for _ in range(16)))
    assert len(witness.logs()) == 2


def test_a_witness_is_made_once_and_opened_with_its_own_private_key(witness: Witness, tmp_path: Path) -> None:
    assert Witness.open(witness.path).verifier_key == witness.verifier_key
    with pytest.raises(KeyFileError):
        Witness.create(witness.path, NAME, SigningKey.generate())
    (witness.path / "witness.key").chmod(0o644)
    with pytest.raises(KeyFileError):
        Witness.open(witness.path)
    with pytest.raises(ValueError, match="printable"):
        Witness.create(tmp_path / "other", "two words", SigningKey.generate())
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        Witness.create(tmp_path / "file" / "witness", NAME, SigningKey.generate())


def test_a_witness_whose_directory_is_gone_says_so(witness: Witness, tmp_path: Path, log: Log) -> None:
    witness.path.rename(tmp_path / "away")
    with pytest.raises(StorageError):
        witness.add_checkpoint(log.request(0, 4), NOW)


def test_what_a_witness_remembers_is_not_begun_anew_because_its_key_is_gone(tmp_path: Path) -> None:
    made = Witness.create(tmp_path / "w", "w.example/1", SigningKey.generate())
    made.enrol(VerifierKey("log.example", SignatureType.ED25519, SigningKey.generate().public))
    (tmp_path / "w" / "witness.key").unlink()
    with pytest.raises(StorageError):
        Witness.create(tmp_path / "w", "w.example/1", SigningKey.generate())
    assert list(made.logs()) == ["log.example"]
