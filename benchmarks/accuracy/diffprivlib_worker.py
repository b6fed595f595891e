"""Runs diffprivlib's k-means; started by `diffprivlib_peer.py` in an environment that has diffprivlib and no fedseg.

python diffprivlib_worker.py TASK.npz RESULT.npz
"""

import sys

import numpy as np
from diffprivlib.models import KMeans  # type: ignore[import-not-found] # is in the other environment alone


def main(task: str, result: str) -> None:
    """Read rows, k, epsilon and seeds; write the centers of each seed, shape (seeds, k, d)."""
    with np.load(task, allow_pickle=False) as given:
        rows, k, epsilon, seeds = given["rows"], int(given["k"]), float(given["epsilon"]), given["seeds"].tolist()
    centers = [
        KMeans(k, epsilon=epsilon, bounds=(-1, 1), random_state=seed).fit(rows).cluster_centers_ for seed in seeds
    ]
    np.savez(result, centers=np.array(centers))


if __name__ == "__main__":
    main(*sys.argv[1:])
