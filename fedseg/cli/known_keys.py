"""Keys that whoever types a command vouches for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fedseg.ledger.keys import PublicKey

KeyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=PUBLICKEY", help="Key of a unit, or of server, known from elsewhere; repeatable."),
]
KeysOption = Annotated[Path | None, typer.Option(help="File with such a line for each key; or a plan.", dir_okay=False)]


def known_keys(options: list[str], path: Path | None) -> "dict[str, PublicKey]":
    """The keys that the user vouches for, by name.

    Args:
        options: `NAME=PUBLICKEY` each.
        path: A file with such a line for each key; or a plan.

    Raises:
        SettingsError: If one is none, or a name has two.
    """
    lines = [("--key", one) for one in options]
    if path is not None:
        lines += [(str(path), line) for line in _key_lines(path)]
    found: dict[str, PublicKey] = {}
    for source, line in lines:
        if not line:
            continue
        try:
            name, public = _parse_key(line)
        except ValueError as error:
            raise _no_key(source, f"{line[:80]!r} is not NAME=PUBLICKEY: {error}") from error
        if found.setdefault(name, public) != public:
            raise _no_key(source, f"{name!r} has two different keys")
    return found


def _key_lines(path: Path) -> list[str]:
    """The lines of a file of keys; of a plan, the keys of its units."""
    from fedseg.audit.bundle import read_evidence
    from fedseg.plan import parse_plan

    data = read_evidence(path)
    if b"public_key" in data:
        return [f"{unit.name}={unit.public_key}" for unit in parse_plan(data).units]
    try:
        return [line.partition("#")[0].strip() for line in data.decode("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise _no_key(str(path), "it is not text") from error


def _parse_key(line: str) -> "tuple[str, PublicKey]":
    """A name and its key: `NAME=PUBLICKEY`, or a verifier key, as C2SP and `fedseg ledger checkpoint` write it.

    Raises:
        ValueError: If it is neither.
    """
    from fedseg.ledger.keys import PublicKey
    from fedseg.ledger.verifier_keys import VerifierKey

    name, sign, value = (part.strip() for part in line.partition("="))
    if "+" not in name:
        if not (sign and name):
            raise ValueError("there is no name before a =")
        return name, PublicKey.from_text(value)
    verifier = VerifierKey.from_text(line)
    if not isinstance(verifier.public_key, PublicKey):
        raise ValueError("a ledger is signed with an Ed25519 key")  # noqa: TRY004 - the text is wrong, not a type
    return verifier.name, verifier.public_key


def _no_key(source: str, why: str) -> SettingsError:
    return SettingsError(
        f"a key in {source} cannot be used",
        why=why,
        fix="write the unit's name, =, and the public_key that the plan states for it; for the server: server=...",
    )
