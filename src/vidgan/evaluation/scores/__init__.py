"""One file for each metric, or for a few that share their computation; see `evaluation.metric`."""
