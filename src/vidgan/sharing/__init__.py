"""Generators for others: files that other programs run, a page that runs one, the hub."""
