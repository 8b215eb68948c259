"""Which measure detects which damage: real clips, damaged in known ways, against real clips.

The demo's moving shapes (8 frames of 16x16 px, 16 classes) are rendered, 512 unseen clips are
damaged one way at a time, and compared with 1,888 training clips (`stswd` and `own-c2st` with 512
of them). Rows of `one way` come from a second set, whose motions have no opposite, so that playing
backwards matters; `own-c3d` has no judge of that set.

    python benchmarks/damages.py --out runs/damages            # rows that are finished are kept
    python benchmarks/damages.py --out runs/damages --table

Real rows are other clips of the same law, one for each of three sets: their scatter is the noise of
a measure. `Spread` is that inside classes over that of a fourth set of real clips. `Overall` is the
geometric mean of the first three measures over the first real row, and `with spread` has the spread
(or one over it, if it is below 1) as one more factor, as in a record. All rows of a measure hold
equally many clips and compare with the same reference.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import fold_time, pool_uint8, unfold_time
from vidgan.core.files import write_file_atomically, write_json_atomically
from vidgan.core.randomness import keyed_rng
from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.evaluation.score import frozen_frames, reversed_frames, shuffled_frames
from vidgan.evaluation.scores import LARGEST_FACTOR
from vidgan.extractors.judge import OwnClassifier, train_own_classifier
from vidgan.extractors.two_sample import two_sample_test
from vidgan.metrics.appearance import AppearanceReference
from vidgan.metrics.frechet import frechet_from_features
from vidgan.metrics.memorisation import compare_spread, thumbnails
from vidgan.metrics.sliced import SlicedReference

NUM_TRAIN, NUM_FRESH, NUM_CLIPS = 2400, 2048, 512
OBJECTS = ("ring", "square", "triangle", "cross")
SCENES = {
    "both ways": MotionSettings(
        size=64, frames=8, objects=OBJECTS, motions=("left", "right", "up", "down")
    ),
    "one way": MotionSettings(
        size=64, frames=8, objects=OBJECTS, motions=("left", "up", "grow", "rotate-left")
    ),
}
MEASURES = ("own-c3d FD", "stswd", "appearance", "own-c2st AUC", "spread")
COMBINED = MEASURES[:3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of finished rows")
    arguments = parser.parse_args()
    if not arguments.table:
        measure_all(arguments.out)
    print(table(arguments.out))


def rendered(out: Path, scene: str) -> dict[str, Tensor]:
    """Clips uint8 `[M, 3, 8, 16, 16]` and labels of both splits."""
    path = out / scene / "data.pt"
    if not path.exists():
        data = {}
        for split, count in (("train", NUM_TRAIN), ("fresh", NUM_FRESH)):
            pairs = [motion_clip(SCENES[scene], i, split) for i in range(count)]
            clips, labels = zip(*pairs, strict=True)
            data[split] = torch.stack([pool_uint8(clip, (1, 4, 4)) for clip in clips])
            data[f"{split}_labels"] = torch.tensor(labels)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file_atomically(path, lambda place: torch.save(data, place))
    found: dict[str, Tensor] = torch.load(path, weights_only=True)
    return found


def as_they_are(clips: Tensor) -> Tensor:
    return clips


def blurred(clips: Tensor) -> Tensor:
    """Every frame smoothed by 1-2-1 weights down and across."""
    weights = torch.tensor([1.0, 2.0, 1.0]) / 4
    frames = F.pad(fold_time(clips.float()), (1, 1, 1, 1), mode="replicate")
    kernel = (weights[:, None] * weights).expand(frames.shape[1], 1, 3, 3)
    return as_bytes(unfold_time(F.conv2d(frames, kernel, groups=frames.shape[1]), len(clips)))


def noisy(levels: float) -> Callable[[Tensor], Tensor]:
    """Gaussian noise of so many grey levels."""

    def damage(clips: Tensor) -> Tensor:
        noise = torch.randn(clips.shape, generator=keyed_rng("noise", str(levels)))
        return as_bytes(clips + levels * noise)

    return damage


def tinted(levels: float) -> Callable[[Tensor], Tensor]:
    """More red and less green by so many grey levels."""
    shift = levels * torch.tensor([1.0, -1.0, 0.0])[:, None, None, None]
    return lambda clips: as_bytes(clips + shift)


def jittered(clips: Tensor) -> Tensor:
    """Every frame shifted by up to one pixel, by itself."""
    frames = F.pad(fold_time(clips.float()), (1, 1, 1, 1), mode="replicate")
    places = torch.randint(3, (len(frames), 2), generator=keyed_rng("jitter")).tolist()
    h, w = clips.shape[3:]
    parts = [frame[:, y : y + h, x : x + w] for frame, (y, x) in zip(frames, places, strict=True)]
    return as_bytes(unfold_time(torch.stack(parts), len(clips)))


def as_bytes(clips: Tensor) -> Tensor:
    return clips.clamp(0, 255).round().to(torch.uint8)


def dark_backgrounds(clips: Tensor) -> Tensor:
    """What is as dark as the background, to half its brightness."""
    clip = clips.float()
    is_dark = clip.mean(1, keepdim=True) < 80
    return as_bytes(clip.where(~is_dark, clip / 2))


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "blurred": blurred,
    "noise of 5 levels": noisy(5),
    "tinted by 5 levels": tinted(5),
    "tinted by 15 levels": tinted(15),
    "backgrounds half as bright": dark_backgrounds,
    "jitter of 1 pixel": jittered,
    "frozen": frozen_frames,
    "shuffled frames": shuffled_frames,
}
MODES = (15, 12, 8, 4, 1)
REPEATED = (4, 1)


@dataclass(frozen=True)
class Row:
    """Unseen clips by their numbers, and what is done to them."""

    chosen: Tensor
    damage: Callable[[Tensor], Tensor] = as_they_are


def rows(labels: Tensor, scene: str) -> dict[str, Row]:
    """What the rows show of unseen clips with these labels."""
    parts = torch.arange(len(labels)).split(NUM_CLIPS)
    if scene == "one way":
        return {
            "one way: real 1": Row(parts[0]),
            "one way: real 2": Row(parts[1]),
            "one way: reversed": Row(parts[0], reversed_frames),
        }
    found = {f"real {k + 1}": Row(parts[k]) for k in range(3)}
    found |= {name: Row(parts[0], damage) for name, damage in DAMAGES.items()}
    for num in MODES:
        found[f"{num} of 16 classes"] = Row(filled((labels < num).nonzero()[:, 0]))
    for num in REPEATED:
        first = [(labels == label).nonzero()[:num, 0] for label in labels.unique()]
        name = f"{num} clip{'s' * (num > 1)} of every class"
        found[name] = Row(filled(torch.cat(first)))
    return found


def filled(numbers: Tensor) -> Tensor:
    """As many numbers as a row has clips, those given again and again."""
    return numbers.repeat(-(-NUM_CLIPS // len(numbers)))[:NUM_CLIPS]


def measure_all(out: Path) -> None:
    """Measure what is missing, row by row."""
    torch.set_num_threads(1)
    for scene, settings in SCENES.items():
        data = rendered(out, scene)
        reference = data["train"][NUM_CLIPS:]
        sample = reference[torch.randperm(len(reference), generator=keyed_rng("reference"))]
        sample = sample[:NUM_CLIPS]
        judge = None if scene == "one way" else judge_of(out / scene, data, settings.classes)
        features = None if judge is None else judge.features(reference)
        describe = thumbnails if judge is None else judge.features
        others, labels = data["fresh"][-NUM_CLIPS:], data["fresh_labels"]
        heldout = describe(others), labels[-NUM_CLIPS:]
        appearance, sliced = AppearanceReference(reference), SlicedReference(sample)
        for name, row in rows(labels, scene).items():
            path = out / "rows" / f"{name.replace(':', '')}.json"
            if path.exists():
                continue
            clips = row.damage(data["fresh"][row.chosen])
            shown = describe(clips)
            spread = compare_spread((shown, labels[row.chosen]), heldout, settings.classes)
            assert spread is not None
            found = {
                "stswd": sliced.distance(clips).value,
                "appearance": appearance.distance(clips),
                "own-c2st AUC": two_sample_test(clips, sample).auc,
                "spread": spread["ratio"],
            }
            if features is not None:
                found["own-c3d FD"] = frechet_from_features(shown, features).distance
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomically(path, {"name": name, "values": found})
            print(name, json.dumps(found), flush=True)


def judge_of(folder: Path, data: dict[str, Tensor], classes: Sequence[str]) -> OwnClassifier:
    """The judge of a scene, trained once."""
    if not (folder / "judge").exists():
        judge = train_own_classifier(
            data["train"], data["train_labels"], classes, range(NUM_TRAIN), seed=0
        )
        judge.save(folder / "judge")
    return OwnClassifier.load(folder / "judge")


def table(out: Path) -> str:
    """Finished rows as a Markdown table."""
    found = [json.loads(path.read_text()) for path in sorted((out / "rows").glob("*.json"))]
    by_name = {row["name"]: row["values"] for row in found}
    titles = (*MEASURES, "overall", "with spread")
    lines = [f"| clips | {' | '.join(titles)} |", "| --- |" + " --- |" * len(titles)]
    for name in rows_in_order():
        if name not in by_name:
            continue
        values = by_name[name]
        unit = by_name.get("one way: real 1" if name.startswith("one way") else "real 1", values)
        cells = [f"{values[key]:.3g}" if key in values else "-" for key in MEASURES]
        cells += [f"{value:.2f}" for value in overall(values, unit)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def overall(values: Mapping[str, float], unit: Mapping[str, float]) -> tuple[float, float]:
    """The distances in one number, and with the spread inside classes."""
    ratios = [values[key] / unit[key] for key in COMBINED if key in values]
    spread = max(values["spread"], 1 / LARGEST_FACTOR)
    factor = min(max(spread, 1 / spread), LARGEST_FACTOR)
    plain, varied = (torch.tensor(part).log().mean().exp() for part in (ratios, [*ratios, factor]))
    return plain.item(), varied.item()


def rows_in_order() -> list[str]:
    labels = torch.arange(NUM_FRESH) % 16
    return [name for scene in SCENES for name in rows(labels, scene)]


if __name__ == "__main__":
    main()
