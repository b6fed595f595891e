"""k-means cost of the released centers beside published private peers: `python -m benchmarks.accuracy`."""
