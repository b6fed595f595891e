"""The server's own log among the witnesses: what it shows them, and what they have signed.

HOME/cosigned.note    the newest checkpoint of the server's ledger, with the cosignatures of the units that have seen it
"""

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from fedseg.errors import NotWitnessedError, RolledBackError
from fedseg.ledger.proof import ConsistencyProof
from fedseg.ledger.store import Ledger
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.ledger.witness_policy import COSIGNATURES
from fedseg.privacy.witnessed import gather
from fedseg.private_file import replacing
from fedseg.server.home import ServerHome

log = logging.getLogger(__name__)

COSIGNED_FILE: Final = "cosigned.note"


@dataclass(frozen=True, slots=True)
class ServerLog:
    """The ledger of a server that is at work."""

    home: ServerHome
    ledger: Ledger

    def growth(self, size: int) -> str | None:
        """The request that a witness takes which knows so many entries; None if there were never so many."""
        history, note = self.ledger.signed()
        if not 0 <= size <= history.size:
            return None
        return ConsistencyProof(size, tuple(history.consistency_proof(size) if size else []), note).to_text()

    def keep(self, note: str, witnesses: Collection[str]) -> None:
        """Keep what these witnesses, named by their verifier keys, have cosigned; what cannot be kept goes to the log.

        The server needs no witness: whoever trusts what it has published looks at the file.
        """
        path, known = self.home.path / COSIGNED_FILE, _keys(witnesses)
        try:
            before = path.read_text("utf-8", errors="replace") if path.exists() else None
            gathered = gather(note, before, self.ledger.signed()[0], known)
            if gathered is not None:
                with replacing(path) as file:
                    file.write(gathered.encode("utf-8"))
        except NotWitnessedError as error:
            log.warning("own_log.not_cosigned why=%s", error.why)
        except RolledBackError as error:
            log.error("own_log.rolled_back why=%s", error.why)  # noqa: TRY400 (the error says all there is)
        except OSError as error:
            log.error("own_log.not_kept why=%s", error.strerror)  # noqa: TRY400 (as above)


def _keys(texts: Collection[str]) -> list[VerifierKey]:
    """The keys that cosign, as units have named them; of those that look alike in a note, none."""
    found: dict[tuple[str, bytes], list[VerifierKey]] = {}
    for text in texts:
        with suppress(ValueError):
            key = VerifierKey.from_text(text)
            if key.type in COSIGNATURES:
                found.setdefault((key.name, key.id), []).append(key)
    return [keys[0] for keys in found.values() if len({*keys}) == 1]
