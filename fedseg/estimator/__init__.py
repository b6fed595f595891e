"""Private k-means for scikit-learn users: all units and the server in one process, behind the same one door."""
