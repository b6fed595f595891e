"""Where the scenarios and policies that come with fedseg are: in the installed package, or in a checkout."""

from pathlib import Path

import fedseg
from fedseg.errors import SettingsError


def shipped(relative: str) -> Path:
    """A shipped file or directory, such as `simulations/online_retail/scenario.toml`.

    Raises:
        SettingsError: If the installation lacks it.
    """
    package = Path(fedseg.__file__).parent
    for root in (package / "shipped", package.parent):
        if (root / relative).exists():
            return root / relative
    raise SettingsError(
        f"{relative} is missing from this installation",
        why=f"it is neither in {package} nor beside it",
        fix="pip install --force-reinstall fedseg",
    )
