"""Adversarial losses, penalties and constraints, and the recipes that combine them."""
