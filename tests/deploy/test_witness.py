"""The HTTP witness in this process: the words and numbers of c2sp.org/tlog-witness, and nothing for strangers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from fedseg.audit import contradiction
from fedseg.audit.contradiction import PROOFS, PROOFS_MAX, keep_contradiction
from fedseg.audit.proof import EquivocationProof
from fedseg.deploy.witness import Place, application, serve
from fedseg.errors import CertificateError, SettingsError
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.merkle import Tree, leaf_hash
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.proof import ConsistencyProof
from fedseg.ledger.verifier_keys import VerifierKey, open_signed
from fedseg.ledger.witness import REQUEST_LIMIT_BYTES, STATE_FILE, Witness

ORIGIN = "unit.example/ledger"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LOG = SigningKey.generate()
LOG_KEY = VerifierKey(ORIGIN, SignatureType.ED25519, LOG.public)

Ask = Callable[..., httpx.Response]


def request_of(old: int, size: int, word: str = "") -> bytes:
    tree = Tree(leaf_hash(f"{n}{word}".encode()) for n in range(size))
    hashes = tuple(tree.consistency_proof(old)) if 0 < old <= size else ()
    return ConsistencyProof(old, hashes, sign_checkpoint(Checkpoint(ORIGIN, size, tree.root()), LOG)).to_text().encode()


STRANGERS = b"old 0\n\n" + sign_checkpoint(Checkpoint(ORIGIN, 1, leaf_hash(b"")), SigningKey.generate()).encode()


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    made = Witness.create(tmp_path / "witness", "witness.example/w1", SigningKey.generate())
    made.enrol(LOG_KEY)
    return made


@pytest.fixture
def app(witness: Witness) -> Starlette:
    return application(witness, lambda: NOW)


@pytest.fixture
def ask(app: Starlette) -> Ask:
    def ask(method: str, path: str, content: bytes | AsyncIterator[bytes] | None = None) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://witness.example") as client:
                return await client.request(method, path, content=content)

        return asyncio.run(go())

    return ask


def submit(ask: Ask, old: int, size: int, word: str = "") -> httpx.Response:
    return ask("POST", "/add-checkpoint", request_of(old, size, word))


def test_a_checkpoint_that_extends_the_last_gets_a_cosignature_that_holds(ask: Ask, witness: Witness) -> None:
    note = ""
    for old, size in ((0, 3), (3, 9)):
        answer = submit(ask, old, size)
        note = request_of(old, size).decode().partition("\n\n")[2] + answer.text
        assert answer.status_code == 200
        assert open_signed(note, [LOG_KEY, witness.verifier_key]).by(witness.verifier_key)
    assert ask("GET", f"/checkpoint?origin={ORIGIN}").text == note


def test_a_conflict_tells_the_size_in_the_type_of_the_specification(ask: Ask) -> None:
    submit(ask, 0, 3)
    answer = submit(ask, 0, 9)
    assert (answer.status_code, answer.text) == (409, "3\n")
    assert answer.headers["content-type"].split(";")[0] == "text/x.tlog.size"


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (400, b"nonsense"),
        (400, request_of(4, 3)),
        (403, STRANGERS),
        (404, request_of(0, 3).replace(ORIGIN.encode(), b"other.example/ledger")),
        (409, request_of(2, 3)),
        (413, b"old 0\n" + b"A" * REQUEST_LIMIT_BYTES),
    ],
)
def test_what_is_refused_gets_the_status_of_the_specification(ask: Ask, status: int, content: bytes) -> None:
    assert ask("POST", "/add-checkpoint", content).status_code == status


def test_a_history_that_does_not_extend_the_last_is_unprocessable(ask: Ask) -> None:
    submit(ask, 0, 3)
    assert submit(ask, 3, 9, "-other").status_code == 422


def test_no_other_path_or_method_answers(ask: Ask) -> None:
    assert ask("GET", "/add-checkpoint").status_code == 405
    assert ask("GET", "/witness.key").status_code == 404
    assert ask("GET", "/checkpoint").status_code == 404
    assert ask("GET", f"/checkpoint?origin={ORIGIN}").status_code == 404


def test_two_histories_leave_a_proof_that_anybody_can_check(ask: Ask, witness: Witness) -> None:
    submit(ask, 0, 3)
    for _ in range(2):
        assert submit(ask, 3, 3, "-other").status_code == 409
    (path,) = (witness.path / PROOFS).iterdir()
    proof = EquivocationProof.from_json(path.read_bytes())
    assert (proof.origin, proof.public_key) == (ORIGIN, LOG.public)


def test_proofs_do_not_fill_the_disk(ask: Ask, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contradiction, "PROOFS_MAX", 2)
    assert PROOFS_MAX > 2
    submit(ask, 0, 3)
    for n in range(4):
        submit(ask, 3, 3, f"-{n}")
    assert len(list((witness.path / PROOFS).iterdir())) == 2


def test_two_keys_of_a_log_prove_nothing_of_one_of_them(witness: Witness) -> None:
    newer = SigningKey.generate()
    witness.enrol(VerifierKey(ORIGIN, SignatureType.ED25519, newer.public))
    witness.add_checkpoint(request_of(0, 3), NOW)
    other = ConsistencyProof(3, (), sign_checkpoint(Checkpoint(ORIGIN, 3, leaf_hash(b"")), newer))
    answer = witness.add_checkpoint(other.to_text().encode(), NOW)
    assert answer.contradicted is not None
    assert keep_contradiction(witness, answer) is None


def test_a_proof_that_cannot_be_kept_does_not_change_the_answer(ask: Ask, witness: Witness) -> None:
    submit(ask, 0, 3)
    (witness.path / PROOFS).touch()
    assert submit(ask, 3, 3, "-other").status_code == 409


def test_a_witness_that_lost_its_memory_answers_nothing_but_that_it_cannot(ask: Ask, witness: Witness) -> None:
    (witness.path / STATE_FILE).write_bytes(b"")
    answer = submit(ask, 0, 3)
    assert (answer.status_code, answer.text) == (503, "the witness cannot answer now; try again later\n")


def test_a_body_that_does_not_come_is_not_waited_for(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"old 0\n"
        await asyncio.sleep(30)

    monkeypatch.setattr("fedseg.deploy.witness.BODY_SECONDS", 0.05)
    assert ask("POST", "/add-checkpoint", slow()).status_code == 408


def test_it_does_not_start_where_it_cannot_listen_or_with_half_a_certificate(witness: Witness, tmp_path: Path) -> None:
    def listening() -> None:
        raise AssertionError("it listens")

    with pytest.raises(SettingsError, match="belong together"):
        Place("127.0.0.1", 8466, tmp_path / "cert.pem", None)
    with pytest.raises(SettingsError, match="fails"):
        serve(witness, Place("192.0.2.1", 8466, None, None), listening)
    (tmp_path / "cert.pem").touch()
    with pytest.raises(CertificateError):
        serve(witness, Place("127.0.0.1", 8466, tmp_path / "cert.pem", tmp_path / "cert.pem"), listening)
    assert Place("::1", 8466, tmp_path, tmp_path).url == "https://[::1]:8466"
