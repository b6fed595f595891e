"""One door out, read off the source: who mints what, who opens a `Sensitive`, who takes noise, who catches everything."""

import ast
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

import pytest

MINTED_IN = {
    "Release": "privacy/release.py",
    "Sensitive": "privacy/sensitive.py",
    "Noise": "privacy/noise.py",
    "ConsentedTable": "policy/gate.py",
    "BoundedFeatures": "clustering/encode.py",
    "Contribution": "server/contribution.py",
    "NoiseShare": None,  # nothing mints one until secure aggregation can mask it
}
"""The one module that may call each type."""

OPENED_IN = {
    "_values": {"privacy/release.py"},
    "_held": {"privacy/noise.py"},
    "_rows": {"clustering/encode.py"},
    "_decisions": {"policy/gate.py"},
}
"""Attributes that hold un-noised data or unused noise, and who may name them. `self._x` in other classes is their own."""

BROAD_EXCEPTS = {
    "federation/client_app.py": "fails closed: Flower would send the text of whatever was raised to the server",
    "cli/main.py": "the outermost edge of the command line: a defect still ends in three lines and exit code 1",
}
"""Every place that may catch all exceptions, and why."""

FLOWER_IN = ("federation/", "simulation/")
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
THE_SAME_EVERYWHERE = ("ledger/", "privacy/", "policy/", "clustering/", "segments/", "node/", "server/", "federation/")

Modules = dict[str, ast.Module]


def originals(tree: ast.Module) -> dict[str, str]:
    """What each imported or defined name of a module was called where it came from."""
    return {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
        if alias.asname is not None
    }


def calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    """Calls of `name`, `module.name` or an alias of it; and `cls(...)` inside the class of that name."""
    known_as = originals(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield from (
                call for call in ast.walk(node) if isinstance(call, ast.Call) and ast.unparse(call.func) == "cls"
            )
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).split(".")[-1]
            if known_as.get(called, called) == name:
                yield node


def takes_noise(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Mentions of a method `take` on anything; NumPy's and Arrow's are called with indices, noise's with nothing."""
    with_arguments = {
        id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and (node.args or node.keywords)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "take" and id(node) not in with_arguments:
            yield node


def opens(tree: ast.Module, attribute: str) -> Iterator[ast.AST]:
    """Mentions of a private attribute on anything but `self`, or of its name as text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == attribute and ast.unparse(node.value) != "self":
            yield node
        if isinstance(node, ast.Constant) and node.value == attribute:
            yield node


def places(modules: Modules, found: Callable[[ast.Module], Iterator[ast.AST]]) -> set[str]:
    return {path for path, tree in modules.items() if any(True for _ in found(tree))}


def is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(ast.unparse(one).split(".")[-1] in {"Exception", "BaseException"} for one in caught)


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("minted", "where"), MINTED_IN.items())
def test_each_step_of_the_path_is_minted_in_one_place(minted: str, where: str | None, modules: Modules) -> None:
    assert places(modules, lambda tree: calls(tree, minted)) == ({where} if where else set())


def test_no_module_makes_an_object_behind_its_class_back(modules: Modules) -> None:
    assert places(modules, lambda tree: calls(tree, "__new__")) == set()


@pytest.mark.parametrize(("attribute", "where"), OPENED_IN.items())
def test_what_holds_unnoised_data_is_opened_in_one_place(attribute: str, where: set[str], modules: Modules) -> None:
    assert places(modules, lambda tree: opens(tree, attribute)) <= where


def test_the_door_is_where_a_sensitive_is_opened(modules: Modules) -> None:
    assert len(list(opens(modules["privacy/release.py"], "_values"))) == 1


def test_noise_is_taken_once_and_at_the_door(modules: Modules) -> None:
    assert places(modules, takes_noise) == {"privacy/release.py"}
    assert len(list(takes_noise(modules["privacy/release.py"]))) == 1


def test_no_module_imports_another_modules_private_names(modules: Modules) -> None:
    private = {
        (path, name)
        for path, tree in modules.items()
        for name in imports_of(tree)
        if name.startswith("fedseg.") and name.split(".")[-1].startswith("_") and not name.endswith("__")
    }
    assert private == set()


def test_flower_is_known_to_federation_and_simulation_alone(modules: Modules) -> None:
    knowing = {
        path for path, tree in modules.items() if any(f"{name}.".startswith("flwr.") for name in imports_of(tree))
    }
    assert "federation/client_app.py" in knowing
    assert {path for path in knowing if not path.startswith(FLOWER_IN)} == set()


def test_only_the_listed_places_catch_everything(modules: Modules) -> None:
    found = [
        path
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]
    assert sorted(found) == sorted(BROAD_EXCEPTS)


def test_no_part_of_a_deployment_asks_whether_it_is_simulated(modules: Modules) -> None:
    questions = {
        (path, ast.unparse(test))
        for path, tree in modules.items()
        if path.startswith(THE_SAME_EVERYWHERE)
        for node in ast.walk(tree)
        for test in conditions(node)
        if "simulat" in ast.unparse(test).lower()
    }
    assert questions == set()


def conditions(node: ast.AST) -> list[ast.expr]:
    """What a statement or expression decides on."""
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        return [node.test]
    if isinstance(node, ast.comprehension):
        return node.ifs
    return [node.subject] if isinstance(node, ast.Match) else []


def test_every_module_has_a_name_that_says_what_it_holds(modules: Modules) -> None:
    assert not {path for path in modules if VAGUE_NAMES & set(PurePosixPath(path).with_suffix("").parts)}


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("Release('id', b'', token)", True),
        ("from fedseg.privacy.release import Release as R\nR('id', b'', token)", True),
        ("import fedseg.privacy.release as door\ndoor.Release('id', b'', token)", True),
        ("class Release:\n    @classmethod\n    def forge(cls):\n        return cls('id')", True),
        ("def answer(release: Release) -> bytes:\n    return release.payload", False),
    ],
)
def test_the_check_sees_every_way_to_mint(source: str, *, seen: bool) -> None:
    assert bool(list(calls(ast.parse(source), "Release"))) is seen


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("noise.take()", True),
        ("grab = noise.take\ngrab()", True),
        ("table.take(indices)", False),
        ("array.take(indices=[1])", False),
    ],
)
def test_the_check_sees_every_way_to_take_noise(source: str, *, seen: bool) -> None:
    assert bool(list(takes_noise(ast.parse(source)))) is seen


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("statistic._values", True),
        ("getattr(statistic, '_values')", True),
        ("self._values", False),
        ("_values = 3", False),
    ],
)
def test_the_check_sees_every_way_to_open_a_sensitive(source: str, *, seen: bool) -> None:
    assert bool(list(opens(ast.parse(source), "_values"))) is seen


@pytest.mark.parametrize(
    ("clause", "seen"),
    [
        ("except", True),
        ("except Exception", True),
        ("except builtins.BaseException", True),
        ("except (OSError, Exception)", True),
        ("except ValueError", False),
    ],
)
def test_the_check_sees_every_broad_except(clause: str, *, seen: bool) -> None:
    tree = ast.parse(f"try:\n    pass\n{clause}:\n    pass")
    assert any(is_broad(node) for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)) is seen
