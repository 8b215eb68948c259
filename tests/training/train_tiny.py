"""What launchers start for test_other_launchers.py: RUN CLIPS."""

import sys
from pathlib import Path

from training_cases import tiny_config

from vidgan.training.loop import train

if __name__ == "__main__":
    train(tiny_config(Path(sys.argv[1]), Path(sys.argv[2])))
