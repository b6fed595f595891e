"""Speed and accuracy, measured beside a peer in the same run: `python -m benchmarks.NAME [--format text|json]`."""
