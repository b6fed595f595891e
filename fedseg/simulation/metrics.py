"""Quality measured with all data in one place: impossible in deployment, the researcher's yardstick in simulation."""

import os
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# scikit-learn asks the operating system for its cores, and warns in containers that hide them.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(os.cpu_count() or 1))

from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin_min

from fedseg.clustering.features import FEATURE_MAX
from fedseg.node.sources.cells import read_cells
from fedseg.plan import Plan
from fedseg.segments.segmentation import Segmentation

BANNER = "computed with all data in one place; impossible in deployment"
REFERENCE_RUNS = 10


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the released segments are, judged with everybody's data."""

    cost_ratio: float | None
    """k-means cost of the released centers over the best of ten non-private runs; None if no segment was released."""
    ari: float | None
    """Adjusted Rand index between the released segments and the best non-private ones."""


def measure(plan: Plan, segmentation: Segmentation, customers: pa.Table) -> Quality:
    """Compare the released centers with scikit-learn's k-means on all customers, in the plan's encoded space."""
    centers = (
        np.array([one.encoded_center for one in segmentation.segments if not one.suppressed], dtype=np.float64)
        / FEATURE_MAX
    )
    if len(centers) == 0:
        return Quality(None, None)
    points = _encoded(plan, customers)
    reference = KMeans(min(plan.k, len(points)), n_init=REFERENCE_RUNS, random_state=0).fit(points)
    labels, distances = pairwise_distances_argmin_min(points, centers, metric="sqeuclidean")
    return Quality(float(distances.sum() / reference.inertia_), float(adjusted_rand_score(reference.labels_, labels)))


def _encoded(plan: Plan, customers: pa.Table) -> NDArray[np.float64]:
    columns = [
        feature.encode(read_cells(customers.column(feature.name).combine_chunks(), feature.type))
        for feature in plan.encoders
    ]
    points: NDArray[np.float64] = np.column_stack(columns) / FEATURE_MAX
    return points
