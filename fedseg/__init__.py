"""fedseg: common customer segments for partners who may not pool their customers.

What users may rely on is listed in `__all__`; everything else may move.
"""

from fedseg.errors import FedsegError

__all__ = ["FedsegError", "__version__"]

__version__ = "0.1.0"
