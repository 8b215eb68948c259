"""Clips inside other files: archives, WebDataset shards, TFRecords, HDF5, NumPy."""
