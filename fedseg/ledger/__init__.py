"""A tamper-evident log in SQLite. Knows nothing about privacy."""
