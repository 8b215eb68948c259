"""From sources to a packed clip set."""
