"""Metric formulas: features or uint8 clips in, numbers out."""
