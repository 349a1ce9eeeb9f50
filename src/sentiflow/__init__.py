"""From labelled reviews to a registered, explained, reproducible sentiment model."""
