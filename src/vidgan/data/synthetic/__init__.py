"""Labelled clips that the package renders itself."""
