"""What `torchrun` starts in every process for test_shared_evaluation.py, and the test in one."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from test_generators import motion_data, small_generator

from vidgan.core.distributed import Processes, join_processes
from vidgan.evaluation.clips import EvaluationOptions
from vidgan.evaluation.generators import evaluate
from vidgan.evaluation.protocols import PROTOCOLS
from vidgan.sampling.outputs import write_sample_folder
from vidgan.sampling.storage import load_generator

NUM_SAMPLES = 130


def work(out: Path, processes: Processes) -> None:
    """Evaluate a generator, with and without a store of features, and write samples."""
    data = motion_data(["train"] * 160 + ["heldout"] * 24)
    protocol = PROTOCOLS["random-c3d-fid"]
    assert protocol.network is not None
    protocol = replace(protocol, num_clips=72, network=replace(protocol.network, width=0.1))
    for name, features in (("stored", out / "features"), ("anew", None)):
        options = EvaluationOptions(features=features, processes=processes)
        record = evaluate(small_generator(num_classes=4), data, protocol, options)
        (out / f"{name}-{processes.rank}.json").write_text(json.dumps(record.to_dict()))
    generator = load_generator("zoo:shapes")
    write_sample_folder(out / "samples", generator, range(NUM_SAMPLES), processes=processes)


if __name__ == "__main__":
    with join_processes("cpu") as joined:
        work(Path(sys.argv[1]), joined)
