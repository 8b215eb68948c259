"""Pages about runs: plain values in, self-contained HTML out."""
