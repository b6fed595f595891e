"""How Hypothesis runs, and what keeps Flower quiet: nothing else."""

import os

from hypothesis import settings

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

# No deadlines: a shared machine stalls now and then, and time is a suite's budget, not an example's.
settings.register_profile("default", deadline=None)
# The same examples each time, so that a red build is red again when someone looks at it.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
