"""Data and models for a team: a remote that holds what dvc.lock names, and proof that it does."""
