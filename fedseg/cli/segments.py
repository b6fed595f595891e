"""`fedseg segments`: look at published segments, signature checked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedseg.cli.output import Format, FormatOption, show, table
from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fedseg.segments.segmentation import Segmentation

app = typer.Typer(help="Published segments.", no_args_is_help=True)


@app.command("show")
def show_(
    place: Annotated[Path, typer.Argument(help="segmentation.json, or the directory of a run.", exists=True)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the segments: name, size and center in plain units, with their noise intervals."""
    from fedseg.segments.segmentation import parse_signed

    path = place / "segmentation.json" if place.is_dir() else place
    if not path.exists():
        raise SettingsError(
            f"{place} holds no published segments",
            why="there is no segmentation.json in it: no run has ended there",
            fix="name the directory of a finished run, or go on with: fedseg simulate SCENARIO.toml --out DIR --resume",
        )
    signed = parse_signed(path.read_bytes())
    data = signed.segmentation.model_dump(mode="json") | {"server_public_key": signed.public_key.to_text()}
    show(format_, data, lambda: _describe(signed.segmentation, signed.public_key.fingerprint()))


def _describe(segmentation: "Segmentation", fingerprint: str) -> str:
    from fedseg.segments.telling import in_full

    blocks = [
        (
            f"{segmentation.name}: {len(segmentation.segments)} segments, "
            f"epsilon {segmentation.epsilon} at delta {segmentation.delta}"
        ),
        f"signed by {fingerprint}",
    ]
    if segmentation.simulated:
        blocks.append("WARNING: the noise was simulated: this is not a differentially private release")
    for one in segmentation.segments:
        if one.size_interval is None:
            blocks.append(f"\n{one.name}: too few customers to show")
            continue
        rows = [
            ["", "center", "95 % noise"],
            *(list(line) for value in one.values for line in in_full(value)),
        ]
        blocks.append(
            f"\n{one.name}: {one.size:,} customers "
            f"(95 % noise {one.size_interval[0]:,} to {one.size_interval[1]:,})\n{table(rows, right=[1, 2])}"
        )
    return "\n".join(blocks)
