"""Plumbing: locks, git, threads, processes, atomic files, terminal. Independent of texts and models."""
