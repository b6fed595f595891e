"""Encrypted copies of what a unit holds, which end with their month's key."""
