"""diffprivlib's k-means, in an environment of its own: it does not import beside a current scikit-learn.

It is central (one place holds all customers and adds one noise) and spends a pure epsilon. The environment is made on
first use, below the user's cache directory, and takes 0.3 GB.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedseg.errors import DeploymentError

PINNED = ("diffprivlib==0.6.6", "scikit-learn==1.6.1")

ENVIRONMENT = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "fedseg-benchmarks"
    / f"{'-'.join(PINNED).replace('==', '-')}-py{sys.version_info.major}{sys.version_info.minor}"
)

WORKER = Path(__file__).with_name("diffprivlib_worker.py")


def prepare(environment: Path = ENVIRONMENT) -> None:
    """Make the environment if it is not there; all of it or nothing.

    Raises:
        DeploymentError: If it cannot be made, as without a package index.
    """
    if environment.exists():
        return
    unfinished = environment.with_name(f"{environment.name}.{os.getpid()}")
    python = str(unfinished / "bin" / "python")
    try:
        _run(sys.executable, "-m", "venv", str(unfinished))
        _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINNED)
        _run(python, "-c", "import diffprivlib.models")
        if not environment.exists():
            unfinished.rename(environment)  # its interpreter is asked for by path, so it may move
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def diffprivlib_centers(
    rows: NDArray[np.float64], k: int, epsilon: Fraction, seeds: Sequence[int]
) -> list[NDArray[np.float64]]:
    """Centers of one run for each seed; `prepare` has been called before.

    Args:
        rows: In the box [-1, 1], shape (n, d); the box is told to diffprivlib as the public bounds.
        k: Segments.
        epsilon: Pure epsilon of each run.
        seeds: Of diffprivlib's noise and starting points.
    """
    with tempfile.TemporaryDirectory() as folder:
        task, result = Path(folder) / "task.npz", Path(folder) / "result.npz"
        np.savez(task, rows=rows, k=k, epsilon=float(epsilon), seeds=np.array(seeds))
        subprocess.run([ENVIRONMENT / "bin" / "python", WORKER, task, result], check=True)
        with np.load(result, allow_pickle=False) as made:
            return list(made["centers"])


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DeploymentError(
            "diffprivlib cannot be measured: its environment could not be made",
            why=next(iter(reversed(done.stderr.strip().splitlines())), f"{command[0]} exits with {done.returncode}"),
            fix=f"connect to a package index with {' and '.join(PINNED)}; or name --algorithms without diffprivlib",
        )
