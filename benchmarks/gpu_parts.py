"""The parts of `benchmarks/gpu.py`, each run in a process of its own.

A part appends one JSON object a line to ROWS: `{"begins": ...}` before something that may never
return, then what came of it. What fails is a row with `error`; the part goes on with the next one.
On a card everything runs there; without one, or with `--tiny`, in a small form on the CPU.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from gpu_runs import clips, loader, resume, training
from gpu_steps import (
    Bench,
    compiled,
    graphed,
    kernels,
    layers,
    levels,
    machine,
    presets,
    switched,
)

PARTS: dict[str, Callable[[Bench], None]] = {
    "machine": machine,
    "clips A": partial(clips, letter="A"),
    "clips B": partial(clips, letter="B"),
    "levels": levels,
    "presets": presets,
    "graphed": graphed,
    "compiled": compiled,
    "layers": layers,
    "kernels": kernels,
    "switched": switched,
    "loader": loader,
    "resume": resume,
    "training A": partial(training, letter="A"),
    "training B": partial(training, letter="B"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if given.tiny:
        torch.set_num_threads(1)
    PARTS[given.part](Bench(given.rows, given.work, given.seconds, given.tiny))


if __name__ == "__main__":
    main()
