"""Remotes, push and pull, checks of completeness and integrity, versions of the data."""
