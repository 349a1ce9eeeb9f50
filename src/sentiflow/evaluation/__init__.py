"""Metrics, intervals, calibration, comparisons, error analysis. Knows no model."""
