"""The coordinator: reads replies, adds them up, remembers rounds, publishes."""
