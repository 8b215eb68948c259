"""Packed clip sets: written, read, exported and verified."""
