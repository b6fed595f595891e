"""`fedseg`: the command line. Commands are thin: parse, call the library, print; heavy imports stay inside them."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import click
import typer

import fedseg
from fedseg.cli import approve, budget, ledger, plan, policy, report, segments, simulate
from fedseg.cli.output import Format, FormatOption, show, show_error
from fedseg.cli.settings import read_settings
from fedseg.errors import FedsegError, SettingsError, every_error

app = typer.Typer(
    help="Common customer segments for partners who may not pool their customers. "
    "Settings come from flags, then FEDSEG_* variables, then the settings file. --debug shows tracebacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(simulate.demo)
app.command("simulate")(simulate.simulate)
app.add_typer(plan.app, name="plan")
app.command("approve")(approve.approve)
app.add_typer(policy.app, name="policy")
app.add_typer(budget.app, name="budget")
app.add_typer(ledger.app, name="ledger")
app.add_typer(segments.app, name="segments")
app.command("report")(report.report)


@app.callback()
def settings(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(envvar="FEDSEG_CONFIG", help="Settings file; ./fedseg.toml if it is there.")
    ] = None,
) -> None:
    """Settings come from flags, then FEDSEG_* variables, then the settings file. `--debug` shows tracebacks."""
    path = config if config is not None else Path("fedseg.toml")
    if config is None and not path.exists():
        return
    context.default_map = read_settings(path, context.command)


@app.command()
def explain(
    code: Annotated[str, typer.Argument(help="An error code, such as E401.")], format_: FormatOption = Format.TEXT
) -> None:
    """Explain an error code: what it means and how the command exits."""
    found = next((error for error in every_error() if error.code == code.upper()), None)
    if found is None:
        known = ", ".join(error.code for error in every_error())
        raise SettingsError(f"there is no error {code}", why=f"known codes are {known}", fix="fedseg explain E401")
    facts = {"code": found.code, "name": found.__name__, "exit_code": found.exit_code, "summary": found.summary}
    show(format_, facts, lambda: f"{found.code} {found.__name__} (exit {found.exit_code})\n{found.summary}")


@app.command()
def version(format_: FormatOption = Format.TEXT) -> None:
    """Print the version."""
    show(format_, {"version": fedseg.__version__}, lambda: f"fedseg {fedseg.__version__}")


def run() -> None:
    """Entry point: run a command, turn errors into three lines and a documented exit code, never a traceback."""
    debug = "--debug" in sys.argv or os.environ.get("FEDSEG_DEBUG") == "1"
    arguments = [one for one in sys.argv[1:] if one != "--debug"]
    sys.exit(run_command(arguments, debug=debug))


def run_command(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit code."""
    format_ = _asked_format(arguments)
    try:
        code = app(arguments, prog_name="fedseg", standalone_mode=False)
    except FedsegError as error:
        failed = error
    except click.UsageError as error:
        failed = _usage_error(error)
    except click.Abort:
        failed = SettingsError(
            "stopped", why="the question was not answered with yes", fix="run it again, or answer beforehand with --yes"
        )
    except BrokenPipeError:  # the reader of our output has gone: nothing is wrong
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 (the outermost edge: a defect still ends in three lines and exit code 1)
        failed = FedsegError(
            "fedseg failed unexpectedly",
            why=type(error).__name__,
            fix="run it again with --debug and report what it prints",
        )
        if debug:
            traceback.print_exc()
        show_error(format_, failed)
        return failed.exit_code
    else:
        return code if isinstance(code, int) else 0
    if debug:
        traceback.print_exception(failed)
    show_error(format_, failed, failed.data)
    return failed.exit_code


def _usage_error(error: click.UsageError) -> SettingsError:
    path = error.ctx.command_path if error.ctx else "fedseg"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # the help it holds has been printed already
        return SettingsError("no command was given", why="the help above lists them", fix=f"{path} COMMAND")
    return SettingsError("the command line is wrong", why=error.format_message(), fix=f"{path} --help")


def _asked_format(arguments: list[str]) -> Format:
    """The format an error is printed in, also when the command line itself is what is wrong."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument == "--format=json" or (before == "--format" and argument == "json"):
            return Format.JSON
    return Format.JSON if os.environ.get("FEDSEG_FORMAT") == "json" else Format.TEXT


if __name__ == "__main__":
    run()
