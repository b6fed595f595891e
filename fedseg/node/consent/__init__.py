"""What customers agreed to: the register of their events, its imports, its receipts."""
