"""Servers and nodes as real processes: users, certificates, proxy, supervisor; starting, stopping and status."""
