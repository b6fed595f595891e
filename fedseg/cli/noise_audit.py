"""`fedseg audit noise`: the privacy claim, tested on the code that is installed."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, print_result, show, table
from fedseg.cli.progress import progress_on_stderr
from fedseg.empirical.parts import GUESSES, GUESSES_MAX, GUESSES_MIN, Part, Size
from fedseg.errors import BrokenPromiseError

if TYPE_CHECKING:
    from fedseg.empirical.audit import Audit
    from fedseg.empirical.game import Finding


def noise(
    n: Annotated[
        int,
        typer.Option(
            "--n",
            metavar="N",
            help="Guesses of each game on a whole unit; on the noise alone ten times as many, on whole runs a quarter.",
            min=GUESSES_MIN,
            max=GUESSES_MAX,
        ),
    ] = GUESSES,
    part: Annotated[
        list[Part] | None,
        typer.Option(help="Play on this only; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the coins that decide who is in a table; noise has none.")] = 1,
    scratch: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="New directory for the made-up units, kept; a temporary one unless said."),
    ] = None,
    node: Annotated[
        Path | None,
        typer.Option(
            envvar="FEDSEG_NODE", help="A real unit's home: so that nothing is put where it or its source is."
        ),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Play the two-world test on noise, node and whole runs, with made-up customers; opens no real table or ledger."""
    from fedseg.empirical.audit import audit_noise
    from fedseg.node.home import NodeHome

    real = [] if node is None else [NodeHome.open(node)]
    started = time.monotonic()
    with progress_on_stderr() as progress:
        found = audit_noise(
            Size.of(n), parts=part or tuple(Part), seed=seed, scratch=scratch, real=real, progress=progress
        )
    facts = _facts(found) | {"seed": seed, "seconds": round(time.monotonic() - started, 3)}
    if not found.violated:
        show(format_, facts, lambda: _describe(found))
        return
    if format_ is Format.TEXT:
        print_result(_describe(found))
    raise _refusal(found, facts)


def _refusal(found: "Audit", facts: dict[str, Any]) -> BrokenPromiseError:
    first = found.violated[0]
    error = BrokenPromiseError(
        "this installation gives away more than it promises",
        why=f"{first.game.name}: {100 * first.right_at_least:.1f} % of guesses or more are right, "
        f"{100 * first.game.allowed:.1f} % are allowed",
        fix="approve and answer nothing; send what fedseg audit noise --format json prints to the makers of fedseg",
    )
    error.data = facts
    return error


def _facts(found: "Audit") -> dict[str, Any]:
    """What the audit found, under the keys that scripts rely on."""
    import fedseg
    from fedseg.empirical.game import DELTA, FALSE_ALARM, POWER

    return {
        "verdict": found.verdict,
        "violated": bool(found.violated),
        "software": f"fedseg {fedseg.__version__}",
        "false_alarm": FALSE_ALARM,
        "power": POWER,
        "delta": float(DELTA),
        "games": [_game(one) for one in found.findings],
    }


def _game(one: "Finding") -> dict[str, Any]:
    return {
        "name": one.game.name,
        "question": one.game.question,
        "guesses": one.guesses,
        "right": one.right,
        "allowed": one.game.allowed,
        "right_at_least": one.right_at_least,
        "violated": one.violated,
        "rho": float(one.game.rho),
        "rho_at_least": one.rho_at_least,
        "rho_estimate": one.rho_estimate,
        "rho_noticed": one.noticed,
        "noise_factor_noticed": one.noticed_factor,
        "epsilon": one.epsilon,
        "epsilon_at_least": one.epsilon_at_least,
    }


def _describe(found: "Audit") -> str:
    from fedseg.empirical.game import FALSE_ALARM, POWER

    return "\n".join(
        [
            found.verdict,
            "",
            _measured(found),
            "",
            *(f"{one.game.name}: {one.game.question}?" for one in found.findings),
            "",
            "right    how often a guesser, told everything but one coin, guessed whether the customer was there",
            "allowed  how often it may be right if the promise is kept",
            "proves   the loss (rho) that this is proof of; the promise is broken where it is above the promised one",
            f"notices  noise this many times too small would have been noticed in {100 * POWER:.0f} of 100 audits,",
            "         or, where nothing at all may be lost, this loss",
            "",
            f"An alarm is false in at most one of {1 / FALSE_ALARM:,.0f} audits, all games together.",
            "It cannot prove that the promise is kept: smaller faults go unnoticed, and so does what no game plays.",
        ]
    )


def _measured(found: "Audit") -> str:
    rows = [["game", "guesses", "right", "allowed", "proves rho", "promised", "notices", "alarm"]]
    for one in found.findings:
        factor = one.noticed_factor
        rows.append(
            [
                one.game.name,
                f"{one.guesses:,}",
                f"{100 * one.right / one.guesses:.1f} %",
                f"{100 * one.game.allowed:.1f} %",
                f"{one.rho_at_least:.2f}",
                f"{float(one.game.rho):.2f}",
                f"rho {one.noticed:.2f}" if factor is None else f"x {factor:.2f}",
                "YES" if one.violated else "no",
            ]
        )
    return table(rows, right=range(1, 8))
