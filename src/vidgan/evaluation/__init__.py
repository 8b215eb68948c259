"""From a generator or clips to a verifiable record of scores."""
