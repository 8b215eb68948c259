"""Clips for training: settings, ordered samples and batches."""
