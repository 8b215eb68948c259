"""Pages about runs: from plain values to self-contained HTML."""
