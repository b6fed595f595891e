"""`make mutants`: whether the tests notice small changes of `privacy/` and of what verifies a ledger.

First the quick tests run once, to see which of them take which line, and for how long. Then each mutant lives in a
forked process of its own, in memory alone, where the tests of its line run, quickest first, until one fails: the mutant
is killed. If none does, and the line is also taken by a fixture that several tests share, all tests of the fixture's
folder run. What is left has survived, and `mutants.toml` must say why it may. A test that starts a process of its own
sees no mutant there, so what only such tests would notice survives.

Hypothesis draws the same examples each time. A sample is drawn by a seed, from each module in proportion.
"""

import argparse
import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Literal, TypeAlias, get_args

import pytest

from benchmarks.mutation import Mutant, error_makers_of, mutants_of, mutated

VERIFIER = ("canonical", "checkpoint", "dsse", "entries", "merkle", "notes", "proof", "reading", "wal")
TESTS = tuple(f"tests/{area}" for area in ("privacy", "release", "ledger", "audit", "node", "server", "plan"))
QUICK = "not (processes or deployment or browser or slow or extras or docs or soak)"
REASONS = Path(__file__).with_suffix(".toml")
OUTCOMES = Path("mutants/outcomes.jsonl")
"""What came of each mutant, one a line."""
MEMORY_LIMIT_BYTES = 8 * 1024**3
"""A mutant that never ends may also never stop growing."""
SHARE_WANTED = 0.95
PYTEST = ("-q", "-p", "no:cacheprovider", "-m", QUICK)
# What is loaded already cannot be rewritten by pytest, and need not be.
UNTIL_ONE_FAILS = (*PYTEST, "-x", "-p", "no:cov", "-W", "ignore::pytest.PytestAssertRewriteWarning")

OURS = {"fedseg", "tests", "benchmarks", "conftest", "__main__", "_pytest", "pytest", "coverage"}

Outcome: TypeAlias = Literal["killed", "timeout", "survived"]


@dataclass(frozen=True, slots=True)
class Place:
    """A mutant, and where it is."""

    path: Path
    mutant: Mutant
    code: str
    """Its line."""
    turn: int
    """Which it is of the same changes of that line, from 1."""

    @property
    def change(self) -> str:
        """What is changed."""
        return f"{self.mutant.before} -> {self.mutant.after}"

    @property
    def key(self) -> str:
        """The same for the same mutant, also when something else in its file has changed."""
        turn = f" ({self.turn})" if self.turn > 1 else ""
        return f"{self.path}: {self.code}: {self.change}{turn}"


@dataclass(frozen=True, slots=True)
class Survey:
    """What the tests do when nothing is mutated."""

    seconds: Mapping[str, float]
    """How long each test takes, with what it sets up."""
    tests_of: Mapping[str, Mapping[int, Sequence[str]]]
    """The tests that take a line, by file and line."""
    shared_of: Mapping[str, Mapping[int, Sequence[str]]]
    """The folders of tests with a shared fixture that takes a line, by file and line."""
    modules: Sequence[str]
    """What they import that is not ours."""


def main() -> int:
    """Run all mutants or a sample; 1 if too few are killed or a survivor has no reason."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("only", nargs="*", help="parts of names of files; all by default")
    options.add_argument("--sample", type=int, help="how many mutants; all by default")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options.add_argument("--tests", nargs="+", default=TESTS, help="which tests may kill; their quick ones do")
    options.add_argument("--left", action="store_true", help="only what no run has killed yet")
    options.add_argument("--report", action="store_true", help="run nothing, say what earlier runs found")
    given = options.parse_args()
    os.environ |= {"CI": "1", "OMP_NUM_THREADS": "1"}
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process would compile all tests anew
    sys.dont_write_bytecode = False
    found = [place for path in _targets(given.only) for place in _places(path)]
    chosen = found if given.sample is None else _sampled(found, given.sample, given.seed)
    print(f"{len(found)} mutants, of which {len(chosen)} are tried (seed {given.seed})", flush=True)
    if not given.report:
        known = _remembered() if given.left else {}
        _try([place for place in chosen if known.get(place.key, "survived") == "survived"], given.tests, given.jobs)
    known = _remembered()
    return _report({place: known[place.key] for place in chosen if place.key in known}, len(chosen))


def _try(places: Sequence[Place], tests: Sequence[str], jobs: int) -> None:
    """Run the mutants, and keep what comes of each."""
    started = time.monotonic()
    survey = _survey(tests)
    print(f"{len(survey.seconds)} tests take {sum(survey.seconds.values()):.0f} s; {len(places)} mutants", flush=True)
    _preload(survey.modules)
    if not _passes_unchanged(survey):
        sys.exit("the tests fail in a forked process without any mutant, so no mutant can be tried")
    OUTCOMES.parent.mkdir(exist_ok=True)
    with OUTCOMES.open("a", encoding="utf-8") as file:
        for place, outcome in _run_all(places, survey, jobs):
            print(f"{outcome:8} {place.key}", flush=True)
            file.write(json.dumps([place.key, outcome]) + "\n")
            file.flush()
    print(f"{time.monotonic() - started:.0f} s with {jobs} processes")


def _targets(only: Sequence[str]) -> list[Path]:
    paths = [*Path("fedseg/privacy").glob("*.py"), *Path("fedseg/audit").glob("*.py")]
    paths += [Path("fedseg/certificate.py"), *(Path(f"fedseg/ledger/{name}.py") for name in VERIFIER)]
    return sorted(path for path in paths if not only or any(part in str(path) for part in only))


def _places(path: Path) -> list[Place]:
    source, turns = path.read_text(), Counter[tuple[str, str, str]]()
    lines, places = source.splitlines(), list[Place]()
    for mutant in mutants_of(source, _error_makers()):
        code = lines[mutant.line - 1].strip()
        same = (code, mutant.before, mutant.after)
        turns[same] += 1
        places.append(Place(path, mutant, code, turns[same]))
    return places


_MAKERS: set[str] = set()


def _error_makers() -> Collection[str]:
    if not _MAKERS:
        for path in Path("fedseg").rglob("*.py"):
            _MAKERS.update(error_makers_of(path.read_text()))
    return _MAKERS


def _sampled(places: Sequence[Place], count: int, seed: int) -> list[Place]:
    """`count` of the places, from each file in proportion, drawn by the seed; a smaller sample is part of a larger."""
    chosen: list[Place] = []
    for path in sorted({place.path for place in places}):
        own = [place for place in places if place.path == path]
        order = random.Random(f"{seed} {path}").sample(own, len(own))
        chosen += order[: round(count * len(own) / len(places))]
    return chosen


# What the tests do


class _Recorder:
    """A plugin of pytest: how long each test takes, and which of them set up something that others use as well."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.first_users: set[str] = set()
        self._running = ""

    def pytest_collection(self) -> None:
        from hypothesis import Phase, settings  # noqa: PLC0415 (its plugin of pytest must load it first)

        # What fails need not be made smaller.
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings(), phases=phases, report_multiple_bugs=False)
        settings.load_profile("mutants")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running = nodeid

    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> None:
        if fixturedef.scope != "function":
            self.first_users.add(self._running)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


def _survey(tests: Sequence[str]) -> Survey:
    """Run the tests in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "survey.json"
        subprocess.run([sys.executable, "-m", "benchmarks.mutants", "--survey", str(out), *tests], check=True)
        said = json.loads(out.read_text())
    tests_of, shared_of = (
        {path: {int(line): taken for line, taken in lines.items()} for path, lines in said[name].items()}
        for name in ("tests_of", "shared_of")
    )
    return Survey(said["seconds"], tests_of, shared_of, said["modules"])


def _write_survey(out: Path, tests: Sequence[str]) -> int:
    """What `_survey` runs."""
    import coverage  # noqa: PLC0415 (not wanted where a mutant is)

    recorder, data_file = _Recorder(), out.with_suffix(".coverage")
    os.environ["COVERAGE_FILE"] = str(data_file)
    code = pytest.main([*PYTEST, "--cov=fedseg", "--cov-context=test", "--cov-report=", *tests], plugins=[recorder])
    data = coverage.CoverageData(str(data_file))
    data.read()
    contexts = {str(path): data.contexts_by_lineno(str(path.resolve())) for path in _targets(())}
    shared = {f"{test}|setup" for test in recorder.first_users}
    said = {
        "seconds": recorder.seconds,
        "tests_of": {path: {line: _tests_in(own) for line, own in lines.items()} for path, lines in contexts.items()},
        "shared_of": {
            path: {
                line: sorted({str(Path(_file_of(test)).parent) for test in shared & set(own)})
                for line, own in lines.items()
            }
            for path, lines in contexts.items()
        },
        "modules": [name for name in sys.modules if name.partition(".")[0] not in OURS],
    }
    out.write_text(json.dumps(said))
    return int(code)


def _tests_in(contexts: Iterable[str]) -> list[str]:
    return sorted({context.rpartition("|")[0] for context in contexts} - {""})


# One mutant


def _run_all(places: Sequence[Place], survey: Survey, jobs: int) -> Iterator[tuple[Place, Outcome]]:
    """What comes of each mutant by the tests of its line; then of those that survive, by who shares a fixture."""
    survived: list[Place] = []
    for place, outcome in _run_each(places, lambda place: _tests_for(place, survey), survey, jobs):
        yield place, outcome
        if outcome == "survived" and _shared_for(place, survey):
            survived.append(place)
    yield from _run_each(survived, lambda place: [_shared_for(place, survey)], survey, jobs)


def _run_each(
    places: Sequence[Place], tests_for: Callable[[Place], Sequence[Sequence[str]]], survey: Survey, jobs: int
) -> Iterator[tuple[Place, Outcome]]:
    """Each mutant in a forked process, several at a time; its tests run in parts."""
    running: dict[int, tuple[Place, float]] = {}
    for place in places:
        if len(running) == jobs:
            yield _next_done(running)
        parts = tests_for(place)
        named = tuple(test for part in parts for test in part)
        expected = sum(seconds for test, seconds in survey.seconds.items() if test.startswith(named))
        child = _forked(functools.partial(_pass_all, parts), _Mutating(place))
        running[child] = (place, time.monotonic() + 20 + 4 * expected)
    while running:
        yield _next_done(running)


def _preload(modules: Iterable[str]) -> None:
    """Load what the tests import but is not ours, so that each fork finds it there."""
    for name in modules:
        with contextlib.suppress(Exception):  # what cannot be loaded now is loaded by whoever needs it
            importlib.import_module(name)


def _tests_for(place: Place, survey: Survey) -> list[list[str]]:
    """The tests of the mutant's line, quickest first; for a line that runs on import, all beside any that take a line.

    Those of one file come first, since loading all files takes longer than running most tests: of the file with the
    largest share of tests that take the line.
    """
    lines = survey.tests_of[str(place.path)]
    tests = lines.get(place.mutant.line)
    if not tests:
        files = {_file_of(test) for own in lines.values() for test in own}
        tests = [test for test in survey.seconds if _file_of(test) in files]
    tests = sorted(tests, key=lambda test: survey.seconds.get(test, 0))
    taking, every = Counter(map(_file_of, tests)), Counter(map(_file_of, survey.seconds))
    nearest = max(taking, key=lambda file: (taking[file] / every[file], taking[file]), default="")
    first = [test for test in tests if _file_of(test) == nearest]
    return [first, [test for test in tests if _file_of(test) != nearest]]


def _file_of(test: str) -> str:
    return test.partition("::")[0]


def _shared_for(place: Place, survey: Survey) -> list[str]:
    return list(survey.shared_of[str(place.path)].get(place.mutant.line, ()))


def _passes_unchanged(survey: Survey) -> bool:
    """Whether the tests pass in such a process, in another order, when nothing is mutated."""
    tests = sorted(survey.seconds, key=survey.seconds.__getitem__)
    _, status = os.waitpid(_forked(functools.partial(_pass, tests)), 0)
    return status == 0


def _forked(passes: Callable[[], bool], *finders: "_Mutating") -> int:
    """Start a process that has loaded nothing of ours but this program, and ends with 0 if what it runs passes."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        sys.meta_path[:0] = finders
        os._exit(0 if passes() else 1)
    finally:
        os._exit(1)


def _pass_all(parts: Sequence[Sequence[str]]) -> bool:
    return all(map(_pass, parts))


def _pass(tests: Sequence[str]) -> bool:
    if not tests:
        return True
    code = pytest.main([*UNTIL_ONE_FAILS, *tests], plugins=[_Recorder()])
    if code == pytest.ExitCode.USAGE_ERROR:
        # A test of that name is not there: its name is another each time, or follows from what is mutated.
        code = pytest.main([*UNTIL_ONE_FAILS, *sorted(set(map(_file_of, tests)))], plugins=[_Recorder()])
    return code == pytest.ExitCode.OK


def _next_done(running: dict[int, tuple[Place, float]]) -> tuple[Place, Outcome]:
    """Wait for any of the processes; one that takes too long is killed, and its mutant with it."""
    while True:
        for child, (place, deadline) in running.items():
            done, status = os.waitpid(child, os.WNOHANG)
            late = time.monotonic() > deadline
            if not done and not late:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            if not done:
                os.waitpid(child, 0)
            del running[child]
            return place, "timeout" if not done else "survived" if status == 0 else "killed"
        time.sleep(0.02)


class _Mutating(importlib.abc.MetaPathFinder):
    """Finds the one module that is mutated, and loads it so."""

    def __init__(self, place: Place) -> None:
        self._name = ".".join(place.path.with_suffix("").parts)
        self._place = place

    def find_spec(self, name: str, _path: object, _target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        loader = _Loader(name, str(self._place.path.resolve()))
        loader.place = self._place
        return importlib.util.spec_from_file_location(name, loader.path, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    place: Place

    def get_code(self, _fullname: str) -> CodeType:
        tree = mutated(self.place.path.read_text(), self.place.mutant.number, _error_makers())
        return compile(tree, self.path, "exec")


# What came of it


def _remembered() -> dict[str, Outcome]:
    """What runs have found so far; the last word counts."""
    if not OUTCOMES.exists():
        return {}
    return dict(json.loads(line) for line in OUTCOMES.read_text(encoding="utf-8").splitlines())


def _report(outcomes: Mapping[Place, Outcome], wanted: int) -> int:
    """Print a row for each file and every survivor with its reason; 1 if that is not enough."""
    _show_rows(outcomes)
    survived = [place for place, outcome in outcomes.items() if outcome == "survived"]
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))["survivors"]
    unexplained = list(survived)
    for reason in reasons:
        explained = [place for place in unexplained if _explains(reason, place)]
        unexplained = [place for place in unexplained if place not in explained]
        if explained:
            _show_survivors(explained, reason["why"])
    if unexplained:
        _show_survivors(unexplained, "NOT EXPLAINED")
    killed = (len(outcomes) - len(survived)) / max(1, len(outcomes))
    print(f"\n{killed:.1%} killed, wanted {SHARE_WANTED:.0%}; {len(survived)} survived, {len(unexplained)} unexplained")
    if len(outcomes) < wanted:
        print(f"{wanted - len(outcomes)} were not tried yet")
    return 0 if killed >= SHARE_WANTED and not unexplained and len(outcomes) == wanted else 1


def _show_rows(outcomes: Mapping[Place, Outcome]) -> None:
    from benchmarks.output import Row, show  # noqa: PLC0415 (loads fedseg, which must not be there where a mutant is)

    rows: list[Row] = []
    for path in sorted({place.path for place in outcomes}):
        own = Counter(outcome for place, outcome in outcomes.items() if place.path == path)
        rows.append({"file": str(path), "mutants": own.total(), **{name: own[name] for name in get_args(Outcome)}})
    every = Counter(outcomes.values())
    rows.append({"file": "all", "mutants": every.total(), **{name: every[name] for name in get_args(Outcome)}})
    show(rows, "text")


def _explains(reason: Mapping[str, str | list[str]], place: Place) -> bool:
    """Whether a reason is about a mutant: about its file and line, and all changes of that line or those it names."""
    same = (reason["file"], reason["code"]) == (str(place.path), place.code)
    return same and ("changes" not in reason or place.change in reason["changes"])


def _show_survivors(places: Iterable[Place], why: str) -> None:
    print()
    for place in places:
        print(f"  {place.path}:{place.mutant.line}: {place.change}")
    print(textwrap.fill(why, 118, initial_indent="    ", subsequent_indent="    "))


if __name__ == "__main__":
    sys.exit(_write_survey(Path(sys.argv[2]), sys.argv[3:]) if sys.argv[1:2] == ["--survey"] else main())
