"""What `torchrun` starts for test_gradient_check.py; only the first process has a fault."""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from broken_kernels import amx_fault
from training_cases import tiny_config

from vidgan.training import gradient_check
from vidgan.training.loop import train
from vidgan.training.step import Logs, TrainingStep

# The same formats are checked on every processor.
gradient_check.has_bfloat16 = lambda device: True

BF16 = "training.precision={networks: bf16, penalty: bf16}"


def main(out: Path, data: Path) -> None:
    rank = os.environ["RANK"]
    penalties: set[str] = set()
    take_step = TrainingStep.run

    def noted(step: TrainingStep, *given: Any) -> Logs:
        penalties.add(step.settings.precision.penalty)
        return take_step(step, *given)

    TrainingStep.run = noted  # type: ignore[method-assign]
    with amx_fault() if rank == "0" else nullcontext():
        train(tiny_config(out / "run", data, BF16, "training.total_clips=56"))
    (out / f"{rank}.json").write_text(json.dumps(sorted(penalties)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
