"""Adversarial losses, what keeps them stable, and the recipes that combine them."""
