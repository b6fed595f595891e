"""Progress on stderr: a bar with rate and time left on a terminal, one plain line per stage elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Generator

Progress = Callable[[str, int, int], None]
"""Takes the stage, what is done, and how much there is."""


@contextlib.contextmanager
def progress_on_stderr() -> Generator[Progress]:
    """A progress function for the length of a command."""
    if sys.stderr.isatty():
        with _bar() as progress:
            yield progress
        return
    said: set[str] = set()

    def line(stage: str, _done: int, _total: int) -> None:
        if stage not in said:
            said.add(stage)
            print(stage, file=sys.stderr, flush=True)

    yield line


@contextlib.contextmanager
def _bar() -> Generator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        BarColumn(24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rate="")

        def advance(stage: str, done: int, total: int) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(
                task,
                description=stage,
                completed=done,
                total=total,
                refresh=True,  # a stage is seen however short it is
                rate=f"{done / elapsed:.1f}/s" if elapsed > 0 else "",
            )

        yield advance
