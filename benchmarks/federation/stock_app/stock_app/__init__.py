"""A trivial Flower app."""
