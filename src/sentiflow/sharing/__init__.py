"""Remotes, push and pull, integrity checks, versions of the data."""
