"""Predictions over HTTP and in bulk, and drift of incoming reviews."""
