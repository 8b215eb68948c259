"""Small clip sets on disk for the runs of these tests."""

import multiprocessing
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from training_cases import pack_clips

# Children are forked from one process that has imported everything, so that a test may kill many.
multiprocessing.set_forkserver_preload(["vidgan.training.loop", "training_cases"])


@pytest.fixture(scope="session")
def packed_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `training_cases.pack_clips`."""
    return pack_clips(tmp_path_factory.mktemp("clips"))
