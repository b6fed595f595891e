"""Recompute everything from bytes: ledgers, charges, the segmentation itself. Above policy and privacy."""
