"""`fedseg ledger`: verify a ledger from its bytes, and export it as one file that can be verified elsewhere."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fedseg.cli.budget import account_facts, ledger_file, shown
from fedseg.cli.output import Format, FormatOption, show
from fedseg.errors import SettingsError, VerificationError

app = typer.Typer(help="Ledgers: tamper-evident logs of everything that left a unit.", no_args_is_help=True)
PathArgument = Annotated[
    Path, typer.Argument(help="A ledger, live or exported, or a home that holds one.", exists=True)
]


@app.command()
def verify(
    path: PathArgument,
    key: Annotated[str | None, typer.Option(help="Public key it must be signed with; as the plan states it.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Replay a ledger and recompute everything in it: hashes, signatures, charges, totals, outputs."""
    from fedseg.audit.verify import verify_ledger
    from fedseg.ledger.keys import PublicKey

    try:
        expected = None if key is None else PublicKey.from_text(key)
    except ValueError as error:
        raise SettingsError(
            "--key is not a public key", why=str(error), fix="copy it from the plan: public_key of the unit"
        ) from error
    try:
        facts = verify_ledger(ledger_file(path), expected)
    except VerificationError as error:
        error.data |= {
            "verified": False,
            "size": None,
            "root": None,
            "rho_spent": None,
            "rho_cap": None,
            "epsilon_at_cap": None,
            "failures": [{"code": error.data.get("fault", error.code), "what": f"{error.what}: {error.why}"}],
        }
        raise
    data: dict[str, Any] = {
        "verified": True,
        "origin": facts.origin,
        "size": facts.size,
        "root": facts.root.hex(),
        "public_key": facts.public_key.to_text(),
        **account_facts(facts),
        "failures": [],
    }
    show(format_, data, lambda: _describe(data, facts.public_key.fingerprint(), given=key is not None))


@app.command()
def export(
    path: PathArgument, out: Annotated[Path, typer.Option(help="File to write.")], format_: FormatOption = Format.TEXT
) -> None:
    """Export a ledger as one text file in which any changed byte is found."""
    from fedseg.audit.verify import verify_ledger
    from fedseg.ledger.export import export_ledger
    from fedseg.simulation.prepare import storage_errors

    facts = verify_ledger(ledger_file(path))
    with storage_errors(out):
        try:
            out.write_bytes(export_ledger(facts.raw))
        except OSError:
            if out.is_file():  # a piece of a ledger is of no use to anyone
                out.unlink()
            raise
    show(
        format_, {"out": str(out), "size": facts.size, "root": facts.root.hex()}, lambda: f"{out}: {facts.size} entries"
    )


def _describe(data: dict[str, Any], fingerprint: str, *, given: bool) -> str:
    lines = [f"verified   {data['origin']}", f"entries    {data['size']}", f"root       {data['root']}"]
    lines.append(
        f"key        {fingerprint} ({'the key you named' if given else 'named by the file itself: see --key'})"
    )
    if data["rho_cap"] is not None:
        lines.append(
            f"spent      rho {data['rho_spent']:.5g} of {data['rho_cap']:.5g}; "
            f"epsilon at the cap {shown(data['epsilon_at_cap'])} (delta {data['delta']:g})"
        )
    if data["noise"] != "system":
        lines.append("WARNING    the noise was simulated: not a differentially private release")
    return "\n".join(lines)
