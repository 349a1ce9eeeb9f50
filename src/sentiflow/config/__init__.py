"""Schema of params.yaml."""
