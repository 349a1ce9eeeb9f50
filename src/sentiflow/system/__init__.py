"""Plumbing: locks, git, threads, processes, atomic files, terminal. Knows nothing of texts or models."""
