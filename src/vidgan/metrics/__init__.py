"""Formulas alone: features or uint8 clips in, numbers out."""
