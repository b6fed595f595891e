"""What users may rely on: `fedseg.__all__`, no more and no less."""

import subprocess
import sys
from types import ModuleType

import fedseg


def test_the_public_names_are_exactly_the_listed_ones() -> None:
    assert all(hasattr(fedseg, name) for name in fedseg.__all__)  # some are loaded by this
    names = {
        name for name, value in vars(fedseg).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert {name for name in fedseg.__all__ if not name.startswith("_")} == names
    assert set(fedseg.__all__) <= set(dir(fedseg))
    assert len(fedseg.__all__) == len(set(fedseg.__all__))


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    assert not hasattr(fedseg, "no_such_name")


def test_importing_fedseg_imports_nothing_heavy() -> None:
    heavy = "flwr", "pyarrow", "sklearn", "scipy", "matplotlib", "torch"
    program = f"import sys, fedseg; print([name for name in {heavy!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == "[]\n"
