"""From a generator or clips to a record of scores that can be verified."""
