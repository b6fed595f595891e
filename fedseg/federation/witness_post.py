"""Asking witnesses that have an address (c2sp.org/tlog-witness), through the proxy: the coordinator has no network.

The proxy answers on a socket of its own, one path for each address that the server's operator has named, and passes
nothing else. What witnesses say is signed, so nobody in between can forge it; what is no answer counts as none.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx

from fedseg.errors import VerificationError
from fedseg.federation.witnessing import Post
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.notes import parse_note
from fedseg.ledger.proof import ConsistencyProof
from fedseg.node.witnessing import Reply

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 10.0
"""How long a witness may take for an answer."""
ANSWER_LIMIT_BYTES: Final = 4096
_NO_ANSWER: Final = Reply(HTTPStatus.SERVICE_UNAVAILABLE, "", "")


def posts(socket: Path, names: Sequence[str]) -> Mapping[str, Post]:
    """How to ask each of these witnesses, by name: the proxy knows them as 0, 1, ... in this order."""
    return {name: AddressedWitness(socket, f"http://witness/{place}") for place, name in enumerate(names)}


@dataclass(frozen=True, slots=True)
class AddressedWitness:
    """One witness behind the proxy's socket."""

    socket: Path
    url: str

    def __call__(self, request: str) -> Reply:
        """Bring a request and its answer; with 409, as far as the witness shows it, what it has cosigned."""
        try:
            with httpx.Client(
                transport=httpx.HTTPTransport(uds=str(self.socket)), timeout=ANSWER_SECONDS, trust_env=False
            ) as client:
                status, body = _read(client, "POST", f"{self.url}/add-checkpoint", content=request.encode("utf-8"))
                if status != HTTPStatus.CONFLICT:
                    return Reply(status, body, "")
                found, newest = _read(client, "GET", f"{self.url}/checkpoint", params={"origin": _origin(request)})
                return Reply(status, body, newest if found == HTTPStatus.OK else "")
        except httpx.HTTPError as error:
            log.warning("witness.no_answer url=%s why=%s", self.url, type(error).__name__)
            return _NO_ANSWER


def _read(client: httpx.Client, method: str, url: str, **asked: object) -> tuple[int, str]:
    """Status and text of an answer; of one that is longer, slower or packed otherwise than a witness's, nothing."""
    end = time.monotonic() + ANSWER_SECONDS
    with client.stream(method, url, headers={"Accept-Encoding": "identity"}, **asked) as answer:  # type: ignore[arg-type]
        data = b""
        for part in answer.iter_raw():  # unpacked by nobody: a few bytes could become any number
            data += part
            if len(data) > ANSWER_LIMIT_BYTES or time.monotonic() > end:
                return HTTPStatus.BAD_GATEWAY, ""
        return answer.status_code, data.decode("utf-8", errors="replace")


def _origin(request: str) -> str:
    try:
        return parse_checkpoint(parse_note(ConsistencyProof.from_text(request).note).text).origin
    except VerificationError:
        return ""
