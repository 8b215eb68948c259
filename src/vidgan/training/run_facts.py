"""What a finished run tells about itself: cost, sizes and clips."""

from collections.abc import Iterator
from pathlib import Path

import torch

from vidgan.core.clip_ops import pool_uint8
from vidgan.core.files import read_json, read_sealed_json
from vidgan.models.base import ClipShape
from vidgan.report.page import Medium
from vidgan.training.logs import LOG_FILE, read_log
from vidgan.training.run_config import load_run_config
from vidgan.video import mp4_bytes, probe, read_frames

MAX_PREDICTIONS = 2
"""Films of predictions that are shown of a run."""
FILM_WIDTH = 400
"""Pixels: a page of many systems shows films about as wide, and embeds them no wider."""


def device_seconds(run: Path) -> float | None:
    """Seconds that all devices of a run trained for, roll-backs not counted; None if unknown."""
    lines = read_log(run / LOG_FILE)
    if (
        not (run / "environment.json").is_file()
        or not lines
        or any("device_seconds" not in line for line in lines)
    ):
        return None
    environment = read_json(run / "environment.json")
    seconds = sum(line["device_seconds"] for line in lines)
    return float(seconds) * int(environment["processes"])


def device_of(run: Path) -> str | None:
    """What a run was trained on, such as `2 x NVIDIA H200`; None if it does not say."""
    path = run / "environment.json"
    if not path.exists():
        return None
    found = read_json(path)
    name, count = found.get("device_name"), int(found.get("processes", 1))
    return f"{count} x {name}" if name and count > 1 else name


def count_parameters(run: Path) -> tuple[int, int] | None:
    """Parameters of the generator, and of all discriminators, at the last level; None for a run
    that does not say what its clips are like."""
    if not (run / "data.json").is_file():
        return None
    data = read_sealed_json(run / "data.json", unsealed=True)
    with torch.device("meta"):
        gan = load_run_config(run).model.build(ClipShape(*data["clip_shape"]), len(data["classes"]))
    counts = {
        name: sum(parameter.numel() for _, parameter in network.parameters_in_use())
        for name, network in gan.networks.items()
    }
    return counts.pop("generator"), sum(counts.values())


def media_of(run: Path) -> Iterator[Medium]:
    """The newest samples of a run, its walk and its predictions."""
    steps = {int(path.stem.removeprefix("step-")): path for path in _samples(run)}
    if steps:
        yield _film(steps[max(steps)], f"Samples at step {max(steps):,}")
    if (run / "interpolation.mp4").exists():
        yield _film(run / "interpolation.mp4", "Walk through the latent space")
    for path in sorted((run / "predictions").glob("*.mp4"))[:MAX_PREDICTIONS]:
        yield _film(path, "Given frames (blue) and predicted ones (orange)")


def _samples(run: Path) -> Iterator[Path]:
    return (p for p in (run / "samples").glob("step-*.mp4") if p.stem[5:].isdigit())


def _film(path: Path, title: str) -> Medium:
    return {"title": title, "mime": "video/mp4", "content": _fitted(path)}


def _fitted(path: Path) -> bytes:
    """The bytes of a film; one that is too wide is averaged over whole blocks of pixels first."""
    found = probe(path)
    factor = -(-found.width // FILM_WIDTH)
    if factor == 1:
        return path.read_bytes()
    clip = read_frames(path).clip
    height, width = (length - length % (2 * factor) for length in clip.shape[2:])
    return mp4_bytes(pool_uint8(clip[:, :, :height, :width], (1, factor, factor)), found.fps)
