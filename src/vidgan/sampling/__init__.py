"""Trained generators: storage, sampling and prediction."""
