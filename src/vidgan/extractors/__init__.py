"""Networks that turn clips into the features that metrics compare, and their weights."""
