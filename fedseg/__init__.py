"""fedseg: common customer segments for partners who may not pool their customers.

What users may rely on is listed in `__all__`; everything else may move.
"""

import importlib
import typing

from fedseg.errors import FedsegError

if typing.TYPE_CHECKING:
    from fedseg.estimator.account import CustomerAccount
    from fedseg.estimator.private_kmeans import PrivateKMeans

__all__ = ["CustomerAccount", "FedsegError", "PrivateKMeans", "__version__"]

__version__ = "0.1.0"

_ON_FIRST_USE = {
    "CustomerAccount": "fedseg.estimator.account",
    "PrivateKMeans": "fedseg.estimator.private_kmeans",
}
"""Names that are loaded when somebody asks for them, because they bring scikit-learn along; and where they are."""


def __getattr__(name: str) -> object:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
