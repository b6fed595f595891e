"""The only place that knows Flower: wire format, client app, server app, loopback.

Flower's usage reports and update checks are switched off before Flower is first imported: nothing leaves but releases.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
