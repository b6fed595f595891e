"""What people read, from facts recomputed from ledgers and signed artefacts."""
