"""MLflow: publishing, versions, promotion rules, champion history, checks of a model directory."""
