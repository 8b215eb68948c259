"""Published weight files: catalogue, reading, checking and storing."""
