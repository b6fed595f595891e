"""`fedseg report`: an officer's report about signed ledgers, or the page of one run; recomputed, never remembered."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.known_keys import KeyOption, KeysOption, known_keys
from fedseg.cli.output import Format, FormatOption, show
from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fedseg.report.officer.model import OfficerReport


def report(
    run: Annotated[
        Path | None,
        typer.Argument(help="The directory of a run, for the page of that run alone.", exists=True, file_okay=False),
    ] = None,
    from_: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Evidence for an officer's report: bundles, or folders that a run has left; repeatable.",
            exists=True,
        ),
    ] = None,
    node: Annotated[
        Path | None, typer.Option(envvar="FEDSEG_NODE", help="A unit's home: the evidence, if nothing else is named.")
    ] = None,
    period: Annotated[str | None, typer.Option(help="2026, 2026-Q4 or 2026-11; everything so far unless said.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report; of a run's page, the run's own.")] = None,
    key: KeyOption = None,
    keys: KeysOption = None,
    signed_off: Annotated[
        Path | None, typer.Option(help="Folder of the last report that was signed off, to compare with.", exists=True)
    ] = None,
    noise_audit: Annotated[
        Path | None,
        typer.Option(help="What fedseg audit noise --format json has printed.", exists=True, dir_okay=False),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Make the report in a folder again and compare every byte.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write an officer's report: budgets, releases, refusals, rules, log and checklist, from signed ledgers alone."""
    if check is not None:
        _check(check, format_)
    elif run is not None:
        _require_one_question(from_, period)
        _page_of_run(run, out, format_)
    else:
        sources = from_ or ([node] if node is not None else [])
        _officers_report(sources, period, out, key or [], keys, signed_off, noise_audit, format_)


def _require_one_question(from_: list[Path] | None, period: str | None) -> None:
    if from_ or period:
        raise SettingsError(
            "a run's page and an officer's report are two things",
            why="a run was named, and --from or --period with it",
            fix="fedseg report --from RUN --out DIR",
        )


def _page_of_run(run: Path, out: Path | None, format_: Format) -> None:
    from fedseg.report.render import write_report

    place = out if out is not None else run
    facts = write_report(run, place)
    files = {"html": str(place / "report.html"), "json": str(place / "report.json")}
    show(format_, files, lambda: "\n".join(files.values()))
    facts.require_verified()


def _officers_report(
    sources: list[Path],
    period: str | None,
    out: Path | None,
    key: list[str],
    keys: Path | None,
    earlier: Path | None,
    noise_audit: Path | None,
    format_: Format,
) -> None:
    from fedseg.report.officer.evidence import gather
    from fedseg.report.officer.pack import Question, signed_off, write

    if not sources or out is None:
        raise SettingsError(
            "nothing says what the report is about, or where it goes",
            why="it needs evidence and a folder",
            fix="fedseg report --from BUNDLE --out DIR",
        )
    question = Question(
        period=period,
        keys={name: public.to_text() for name, public in known_keys(key, keys).items()},
        signed_off=None if earlier is None else signed_off(earlier),
        noise_audit=None if noise_audit is None else noise_audit.read_bytes(),
    )
    found, files = write(gather(sources), question, out)
    facts = _facts(found) | {"files": [str(path) for path in files]}
    show(format_, facts, lambda: _describe(found, [str(path) for path in files]))
    found.require_verified()


def _check(folder: Path, format_: Format) -> None:
    from fedseg.report.officer.pack import FILES, check

    found = check(folder)
    facts = _facts(found) | {"files": [str(folder / name) for name in FILES if (folder / name).exists()]}
    show(format_, facts, lambda: f"{folder}: every file is what its bundle gives, byte for byte\n{_summary(found)}")


def _facts(found: "OfficerReport") -> dict[str, Any]:
    """What the report says first, under the keys that scripts rely on."""
    return {
        "verified": found.verified,
        "period": found.period.text,
        "as_of": found.period.as_of,
        "witnessed": found.witnessed,
        "ledgers": len(found.log),
        "units": len(found.units),
        "releases": sum(one.releases_in_period for one in found.units),
        "refusals": len(found.refusals),
        "waiting": len(found.waiting),
        "blanks": sum(1 for one in found.checklist if one.blank),
        "bundle_sha256": found.evidence.sha256,
        "failures": [{"code": one.code, "where": one.where, "what": one.what} for one in found.failures],
    }


def _summary(found: "OfficerReport") -> str:
    if not found.verified:
        return "\n".join(f"{one.code}  {one.where}: {one.what}" for one in found.failures)
    facts = _facts(found)
    return "\n".join(
        [
            f"log        intact: {facts['ledgers']} ledgers; {_witnessed(found)}",
            f"as of      {found.period.as_of or 'no day'}",
            f"released   {facts['releases']:,} releases of {facts['units']} units; {facts['refusals']} refusals",
            f"waiting    {facts['waiting']} for somebody",
            f"checklist  {facts['blanks']} of {len(found.checklist)} points have blanks for people to fill",
            f"bundle     sha256 {facts['bundle_sha256']}",
        ]
    )


def _witnessed(found: "OfficerReport") -> str:
    seen, unseen = len(found.units_with_witnesses), len(found.units_without_witnesses)
    return f"{seen} of {seen + unseen} units witnessed" if seen else "no witness"


def _describe(found: "OfficerReport", files: list[str]) -> str:
    return "\n".join(["FAILED" if not found.verified else "", _summary(found), "", *files]).strip("\n")
