"""MLflow: what is published, which version is champion, and why."""
