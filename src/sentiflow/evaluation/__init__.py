"""Metrics, intervals, calibration, comparisons, error analysis; independent of the models."""
