"""How near `vidgan plan` comes: predicted time and memory beside those of trainings.

    python benchmarks/plan.py --seconds 30            # CPU presets, trained for about 30 s each
    python benchmarks/plan.py --table h200            # the table beside docs/results/gpu-h200

Every training runs in a process of its own, with one thread, and its schedule is scaled to the
seconds that are given; its time is that of its log (CPU seconds), its memory the largest resident
size of the process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from vidgan.core.machine import has_bfloat16
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.models.base import ClipShape
from vidgan.training.budget import STEPS_SHARE, scale_schedule
from vidgan.training.device_rates import DEVICES, GIB, step_seconds
from vidgan.training.loop import train
from vidgan.training.plan import CARD_FIXED, CARD_MARGIN, make_plan
from vidgan.training.planner import plan_schedule, stretches
from vidgan.training.presets import Config, load_config
from vidgan.training.run_folder import device_seconds
from vidgan.training.step_cost import count_step

PRESETS = (
    "cpu/pvgan-motions-16x8",
    "cpu/pocketgan-motions-16x8",
    "cpu/vgan-motions-16x8",
    "cpu/mocogan-motions-16x8",
    "cpu/hrvgan-motions-16x8",
    "cpu/tgan-motions-16x8",
    "cpu/pvgan-clips-32x16",
)
RESULTS = Path(__file__).parent.parent / "docs" / "results" / "gpu-h200" / "results.json"
FITTED = ("gpu/hrvgan-clips-128x32", "gpu/vgan-clips-64x32", "gpu/dvdgan-clips-64x12")
"""Presets whose steps, beside those of the thesis' network, the H200's row was fitted to."""
FP32 = ["training.precision.networks=fp32", "training.precision.penalty=fp32"]
BF16 = ("training.precision.networks=bf16", "training.precision.penalty=bf16")


def settings(preset: str, data: str, run: str) -> Config:
    """A preset on one thread, without films, checkpoints and the check of gradients.

    That check is done once on a machine, and takes longer than these trainings at 32 px.
    """
    words = ["training.threads=1", "training.device=cpu", "training.sample_every=0"]
    words += ["training.checkpoint_every=1000000", "training.workers=0"]
    words += ["training.precision.check=off"]
    words += [] if has_bfloat16(torch.device("cpu")) else FP32
    return load_config(preset, [f"data={data}", f"run={run}", *words])


def stretches_of(config: Config, clip_shape: tuple[int, int, int, int]) -> list[int]:
    """Steps at each level."""
    schedule = plan_schedule(config, clip_shape)
    return [steps for _, steps in stretches(schedule.total, schedule, config.training)]


def predict(preset: str, data: str, seconds: float, classes: int) -> dict[str, Any]:
    """The plan of a preset, and the factor that makes its training so long."""
    config = settings(preset, data, "unused")
    plan = make_plan(config, "cpu", classes)
    factor = seconds / plan.seconds
    scaled = scale_schedule(config, factor)
    data_config = config.data
    size = (3, data_config.frames, data_config.resolution, data_config.resolution)
    steps = sum(
        level.step_seconds * count
        for level, count in zip(plan.levels, stretches_of(scaled, size), strict=True)
    )
    peaks = [
        peak
        for level in plan.levels
        for peak in (level.peak_discriminator, level.peak_penalty, level.peak_generator)
    ]
    return {"factor": factor, "seconds": steps / STEPS_SHARE, "peak": max(peaks)}


def measure(preset: str, data: str, factor: float) -> dict[str, Any]:
    """Train, and read the time from the log and the memory from the system."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train(scale_schedule(settings(preset, data, str(run)), factor))
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"seconds": device_seconds(run), "peak": peak}


def in_child(words: list[str]) -> dict[str, Any]:
    """One line of JSON of this script in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def trainings(seconds: float, presets: list[str]) -> None:
    """The table of trainings on the CPU."""
    print("| preset | predicted s | measured s | ratio | predicted GiB | measured GiB | ratio |")
    print("|" + " --- |" * 7)
    with tempfile.TemporaryDirectory() as folder:
        for size, frames in ((16, 8), (32, 16)):
            look = motion_settings(objects=["disc", "square"], size=size, frames=frames)
            render_motions(Path(folder) / f"{size}", look, videos=64)
        for preset in presets:
            data = str(Path(folder) / ("32" if "32x16" in preset else "16"))
            classes = len([item for item in Path(data).iterdir() if item.is_dir()])
            first = in_child(
                ["--predict", preset, data, "--seconds", str(seconds), "--classes", str(classes)]
            )
            second = in_child(["--measure", preset, data, "--factor", repr(first["factor"])])
            cells = [preset]
            for key, unit in (("seconds", 1.0), ("peak", GIB)):
                a, b = first[key] / unit, second[key] / unit
                cells += [f"{a:.3g}", f"{b:.3g}", f"{a / b:.2f}"]
            print("| " + " | ".join(cells) + " |", flush=True)


def table(name: str) -> None:
    """The row of the table beside steps that were measured as CUDA graphs."""
    rates = DEVICES[name]
    parts = json.loads(RESULTS.read_text(encoding="utf-8"))["parts"]
    rows = [*parts["graphed"]["rows"], *parts["presets"]["rows"]]
    print("| step | fitted | predicted ms | measured ms | ratio | predicted GiB | measured GiB |")
    print("|" + " --- |" * 7)
    for row in rows:
        if row["mode"] != "CUDA graph" or "error" in row:
            continue
        is_thesis = row["level"] is not None
        config = load_config(row["what"], ["data=noise", *(BF16 if is_thesis else ())])
        data = config.data
        shape = ClipShape(3, data.frames, data.resolution, data.resolution)
        level = row["level"] if is_thesis else len(config.model.levels(shape)) - 1
        cost = count_step(config, shape, 0 if is_thesis else 10, level, row["batch"])
        ms = 1e3 * step_seconds(cost, rates)
        peak = (CARD_MARGIN * cost.peak + CARD_FIXED) / GIB
        fitted = "yes" if is_thesis or row["what"] in FITTED else "no"
        what = f"{row['what']} level {level}"
        print(
            f"| {what} | {fitted} | {ms:.3g} | {row['ms']:.3g} | {ms / row['ms']:.2f} | {peak:.3g}"
            f" | {row['peak_gib']:.3g} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--seconds", type=float, default=30.0, help="of each training")
    parser.add_argument("--table", choices=tuple(DEVICES), help="a device's row instead")
    parser.add_argument("--predict", nargs=2, metavar=("PRESET", "DATA"))
    parser.add_argument("--measure", nargs=2, metavar=("PRESET", "DATA"))
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--classes", type=int, default=0)
    given = parser.parse_args()
    if given.predict:
        print(json.dumps(predict(*given.predict, given.seconds, given.classes)))
    elif given.measure:
        print(json.dumps(measure(*given.measure, given.factor)))
    elif given.table:
        table(given.table)
    else:
        trainings(given.seconds, given.presets)


if __name__ == "__main__":
    main()
