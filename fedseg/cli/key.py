"""`fedseg key`: keys of officers, who sign policies and decisions, of requesters, who sign plans, and of units."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, require_somebody, say, show

if TYPE_CHECKING:
    from fedseg.ledger.keys import SigningKey

app = typer.Typer(help="Keys of officers, of those who ask for plans, and of units.", no_args_is_help=True)


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


@app.command()
def replace(
    node: Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say whether it could be replaced now.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Replace a unit's key by a new one. Its ledger says so, signed by both; the old key's file is gone afterwards."""
    from fedseg.node.home import NodeHome
    from fedseg.node.key_change import replace_key, require_replaceable

    ask = not dry_run and not yes
    if ask:
        require_somebody("replace the key", f"fedseg key replace --node {node} --yes")
    home, now = NodeHome.open(node), datetime.now(UTC)
    old = require_replaceable(home, now=now)
    if ask:
        say(f"unit   {home.settings.unit}\nkey    {old.fingerprint()}\nNew plans must name the new key.")
        typer.confirm("Replace this key?", abort=True, err=True)
    change = None if dry_run else replace_key(home, now=now)
    facts = {
        "outcome": "could be replaced" if change is None else "replaced",
        "unit": home.settings.unit,
        "old_key": old.to_text(),
        "public_key": None if change is None else change.new.to_text(),
        "fingerprint": None if change is None else change.new.fingerprint(),
        "entry": None if change is None else change.seq,
    }
    show(format_, facts, lambda: _describe_change(facts))


def _describe_change(facts: dict[str, Any]) -> str:
    if facts["public_key"] is None:
        return f"{facts['unit']}: the key could be replaced now; nothing was changed"
    return "\n".join(
        [
            f"{facts['unit']}: key replaced, as entry {facts['entry']} of its ledger says",
            f"public key   {facts['public_key']} (for new plans)",
            f"fingerprint  {facts['fingerprint']} (to read out to whoever checks the ledger)",
        ]
    )


def _show(format_: Format, file: Path, key: "SigningKey") -> None:
    facts = {"file": str(file), "public_key": key.public.to_text(), "fingerprint": key.public.fingerprint()}
    show(
        format_,
        facts,
        lambda: f"public key   {facts['public_key']}\nfingerprint  {facts['fingerprint']}",
    )
