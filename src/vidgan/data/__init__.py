"""Clips for training: settings, samples in order, and batches."""
