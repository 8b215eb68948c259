"""vidgan: train, sample and honestly compare generative adversarial networks for video."""

__version__ = "0.1.0"
