"""Versions of the data: list them, compare two of them, add reviews."""
