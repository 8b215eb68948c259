"""Built models compared with the layers and counts of their sources."""
