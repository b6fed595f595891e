"""`fedseg`: the command line. Commands are thin: parse, call the library, print; heavy imports stay inside them."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import click
import typer

import fedseg
from fedseg.cli import (
    approve,
    audit,
    budget,
    consent,
    console,
    governance,
    inbox,
    job,
    key,
    ledger,
    monitor,
    node,
    plan,
    policy,
    report,
    segments,
    server,
    service,
    simulate,
    subject,
    witness,
)
from fedseg.cli.output import FORMAT, Format, FormatOption, show, show_error
from fedseg.cli.settings import read_settings
from fedseg.errors import FedsegError, SettingsError, StorageError, every_error

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
app.add_typer(inbox.app, name="inbox")
app.command("approve")(approve.approve)
app.command("deny")(approve.deny)
app.command("revoke")(approve.revoke)
app.command("console")(console.console)
app.add_typer(key.app, name="key")
app.add_typer(server.app, name="server")
app.add_typer(node.app, name="node")
app.command("service")(service.service)
app.command("monitor")(monitor.monitor)
app.add_typer(job.app, name="job")
app.add_typer(policy.app, name="policy")
app.add_typer(consent.app, name="consent")
app.add_typer(subject.app, name="subject")
app.add_typer(governance.app, name="governance")
app.add_typer(budget.app, name="budget")
app.add_typer(ledger.app, name="ledger")
app.add_typer(witness.app, name="witness")
app.add_typer(audit.app, name="audit")
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
    code: Annotated[str, typer.Argument(help="A code, such as E401 or L9-charge.")], format_: FormatOption = Format.TEXT
) -> None:
    """Explain the code of an error, or of what an audit found: what it means, and what to do or how it exits."""
    from fedseg.audit.faults import Fault

    fault = next((one for one in Fault if one.code.lower() == code.lower()), None)
    if fault is not None:
        said = {"code": fault.code, "summary": fault.says, "means": fault.means, "fix": fault.act}
        show(format_, said, lambda: f"{fault}\n{fault.says}\nmeans: {fault.means}\ndo: {fault.act}")
        return
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
    answers = {FORMAT: _asked_format(arguments)}
    try:
        code = app(arguments, prog_name="fedseg", standalone_mode=False, obj=answers)
    except Exception as error:  # noqa: BLE001 (the outermost edge: a defect still ends in three lines and exit code 1)
        if debug:
            traceback.print_exc()
        failed = _as_fedseg_error(error)
    else:
        return code if isinstance(code, int) else 0
    try:
        show_error(answers[FORMAT], failed, failed.data)
    except StorageError:  # there is nowhere left to say it; the exit code still does
        return failed.exit_code
    return failed.exit_code


def _as_fedseg_error(error: Exception) -> FedsegError:
    """What went wrong, in the three parts that people get to see."""
    if isinstance(error, FedsegError):
        return error
    if isinstance(error, click.UsageError):
        return _usage_error(error)
    if isinstance(error, click.Abort):
        return SettingsError(
            "stopped", why="the question was not answered with yes", fix="run it again, or answer beforehand with --yes"
        )
    if isinstance(error, OSError):
        return StorageError(
            "a file cannot be read or written",
            why=f"{error.filename or 'it'}: {error.strerror or type(error).__name__}",
            fix="check the path, its permissions and the free space",
        )
    return FedsegError(
        "fedseg failed unexpectedly",
        why=type(error).__name__,
        fix="run it again with --debug and report what it prints",
    )


def _usage_error(error: click.UsageError) -> SettingsError:
    path = error.ctx.command_path if error.ctx else "fedseg"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # the help it holds has been printed already
        return SettingsError("no command was given", why="the help above lists them", fix=f"{path} COMMAND")
    return SettingsError("the command line is wrong", why=error.format_message(), fix=f"{path} --help")


def _asked_format(arguments: list[str]) -> Format:
    """The format an error is printed in when the command line itself is wrong: the option's, else the environment's."""
    asked = os.environ.get("FEDSEG_FORMAT")
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == "--format":
            asked = argument
        elif argument.startswith("--format="):
            asked = argument.removeprefix("--format=")
    return Format.JSON if asked == Format.JSON else Format.TEXT


if __name__ == "__main__":
    run()
