"""`fedseg witness`: remember other people's logs, so that nobody can take back what they have signed."""

from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, say, show

if TYPE_CHECKING:
    from fedseg.errors import VerificationError
    from fedseg.ledger.witness import Answer, Witness

app = typer.Typer(
    help="Witnesses: they cosign a log only if it extends what they have seen of it.", no_args_is_help=True
)
DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The witness's directory.")]


@app.command()
def init(
    directory: DirectoryArgument,
    name: Annotated[str, typer.Option(help="Its name in policies, such as witness.example/w1; never changed.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a new witness with a key of its own, and print the key as policies name it."""
    from fedseg.errors import SettingsError
    from fedseg.ledger.keys import SigningKey
    from fedseg.ledger.witness import Witness

    try:
        made = Witness.create(directory, name, SigningKey.generate())
    except ValueError as error:
        raise SettingsError("--name cannot be a witness's", why=str(error), fix="--name witness.example/w1") from error
    show(format_, _facts(made), made.verifier_key.to_text)


@app.command()
def enrol(
    directory: DirectoryArgument,
    key: Annotated[list[str], typer.Argument(metavar="KEY...", help="Verifier keys of logs: NAME+ID+KEY.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Watch these logs. Have their keys from their owners: fedseg ledger checkpoint LEDGER --verifier-key."""
    from fedseg.errors import SettingsError
    from fedseg.ledger.verifier_keys import VerifierKey
    from fedseg.ledger.witness import Witness

    witness = Witness.open(directory)
    try:
        keys = [VerifierKey.from_text(one) for one in key]
    except ValueError as error:
        raise SettingsError(
            "KEY is not a log's key", why=str(error), fix="fedseg ledger checkpoint LEDGER --verifier-key"
        ) from error
    witness.enrol(*keys)
    show(format_, _facts(witness), lambda: "\n".join(_describe(witness)))


@app.command("show")
def show_(directory: DirectoryArgument, format_: FormatOption = Format.TEXT) -> None:
    """Show a witness's key, and how far it has seen each log."""
    from fedseg.ledger.witness import Witness

    witness = Witness.open(directory)
    show(format_, _facts(witness), lambda: "\n".join([witness.verifier_key.to_text(), *_describe(witness)]))


@app.command()
def start(
    directory: DirectoryArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Listen here.")] = 8466,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all.")] = "127.0.0.1",
    cert: Annotated[
        Path | None, typer.Option(help="Certificate, PEM, with its chain; without it no TLS.", dir_okay=False)
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.", dir_okay=False)] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Cosign the enrolled logs over HTTP until Ctrl-C, as in c2sp.org/tlog-witness. It calls nobody."""
    from fedseg.deploy.witness import Place, serve
    from fedseg.ledger.witness import Witness

    witness, place = Witness.open(directory), Place(host, port, cert, key)
    facts = _facts(witness) | {"outcome": "listening", "url": place.url}
    serve(witness, place, lambda: show(format_, facts, lambda: f"{place.url} cosigns as {witness.name}"))


@app.command()
def cosign(
    directory: DirectoryArgument,
    file: Annotated[
        Path,
        typer.Argument(
            help="What fedseg ledger prove --from printed; the first time, what fedseg ledger checkpoint did.",
            exists=True,
            dir_okay=False,
        ),
    ],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Cosign a checkpoint by hand, after the same checks, and print it with the cosignature."""
    from fedseg.audit.contradiction import keep_contradiction
    from fedseg.ledger.witness import REQUEST_LIMIT_BYTES, Witness

    witness = Witness.open(directory)
    with file.open("rb") as opened:
        data = opened.read(REQUEST_LIMIT_BYTES + 1)
    request = data if data.startswith(b"old ") else b"old 0\n\n" + data
    answer = witness.add_checkpoint(request, datetime.now(UTC))
    kept = keep_contradiction(witness, answer)
    if answer.status is not HTTPStatus.OK:
        raise _refused(answer, kept)
    note = request.decode("utf-8").partition("\n\n")[2] + answer.body
    show(format_, {"cosignature": answer.body, "note": note}, lambda: note.removesuffix("\n"))


def _facts(witness: "Witness") -> dict[str, Any]:
    return {
        "name": witness.name,
        "verifier_key": witness.verifier_key.to_text(),
        "logs": [
            {"origin": one.origin, "keys": [key.to_text() for key in one.keys], "size": one.newest.size}
            for one in witness.logs().values()
        ],
    }


def _refused(answer: "Answer", kept: Path | None) -> "VerificationError":
    from fedseg.errors import VerificationError

    if kept is not None:
        say(f"the log has signed two histories; the proof is in {kept}")
    said, why, fix = answer.body.strip(), answer.body.strip(), "fedseg witness show DIR tells what it watches"
    if answer.status is HTTPStatus.CONFLICT:
        why = f"what it has cosigned of this log are {said} entries, and this does not begin with them"
        fix = f"fedseg ledger prove LEDGER --from {said}"
    return VerificationError(f"the witness does not cosign this: {answer.status.value}", why=why, fix=fix)


def _describe(witness: "Witness") -> list[str]:
    return [f"{one.origin}: {one.newest.size} entries" for one in witness.logs().values()] or ["watches no log yet"]
