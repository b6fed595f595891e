"""`fedseg key`: keys of officers, who sign policies and decisions, and of requesters, who sign plans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedseg.cli.output import Format, FormatOption, show

if TYPE_CHECKING:
    from fedseg.ledger.keys import SigningKey

app = typer.Typer(help="Keys of officers and of those who ask for plans.", no_args_is_help=True)


@app.command()
def new(
    file: Annotated[Path, typer.Argument(help="New file for the private key; only you may read it.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a new key pair. Give others the public key; keep the file where only you get at it."""
    from fedseg.ledger.keys import SigningKey

    key = SigningKey.generate()
    key.save(file)
    _show(format_, file, key)


@app.command("show")
def show_(
    file: Annotated[Path, typer.Argument(help="File with a private key.", exists=True, dir_okay=False)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Print the public key and the fingerprint of a key file."""
    from fedseg.ledger.keys import SigningKey

    _show(format_, file, SigningKey.load(file))


def _show(format_: Format, file: Path, key: "SigningKey") -> None:
    facts = {"file": str(file), "public_key": key.public.to_text(), "fingerprint": key.public.fingerprint()}
    show(
        format_,
        facts,
        lambda: f"public key   {facts['public_key']}\nfingerprint  {facts['fingerprint']}",
    )
