"""Clips that lie inside of other files: archives, WebDataset shards, TFRecords, HDF5, NumPy."""
