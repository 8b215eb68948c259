"""What every part of the package shares: value ranges, keys of randomness, files, settings."""
