"""From settings to a run folder: growth, steps, checkpoints and pages."""
