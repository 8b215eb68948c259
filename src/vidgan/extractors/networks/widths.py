"""Tables of weight shapes as functions of a width factor."""

Shapes = dict[str, tuple[int, ...]]
"""Name of a weight to its shape, in the order of the network."""


def scaled(channels: int, width: float) -> int:
    """Channels at a width: `channels * width`, rounded, at least 1."""
    return max(1, round(channels * width))
