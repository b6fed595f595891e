"""Segments from noised linear statistics, in exact integers."""
