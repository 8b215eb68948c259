"""Published weight files: which there are, how they are read, checked and kept."""
