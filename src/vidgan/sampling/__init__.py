"""Trained generators: storing and loading them, and what they make."""
