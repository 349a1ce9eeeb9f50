"""Runs DVC's stages: workers, scheduling, recovery, isolated runs, the object store."""
