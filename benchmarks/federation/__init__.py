"""Rounds of a deployed federation on one machine, ours beside stock Flower's."""
