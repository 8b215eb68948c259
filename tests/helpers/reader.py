"""A reader's folder, in which the commands of documents run on tiny clips and with few steps."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from document_commands import ROOT, words_of

from vidgan.cli import main as cli

SHORT = [
    "training.total_clips=32",
    "training.stable_clips=0",
    "training.fade_clips=0",
    "training.batch_size=8",
    "training.num_samples=4",
    "training.precision.check=off",
    "training.checkpoint_every=2",
    "training.precision.networks=fp32",
    "training.precision.penalty=fp32",
    "data.workers=0",
]
JUDGED = ["data.workers=0", "protocol.num_clips=8"]
CLASSIFIER = ["protocol.classifier.clips_seen=64", "protocol.classifier.width=0.05"]
TWO_SAMPLES = ["protocol.two_sample.clips_seen=64", "protocol.two_sample.channels=4"]
SUITE = """
budget: {clips: 32}
seeds: [0]
num_clips: 16
motions: {videos: 64, size: 16, objects: [disc], motions: [left, right], heldout: 0.25}
protocol: stswd
set: [training.device=cpu, training.sample_every=0, training.checkpoint_every=100]
systems:
  MoCoGAN: {preset: cpu/mocogan-motions-16x8, set: [model.width=4]}
"""


def run_in(folder: Path, words: list[str]) -> int:
    """Run vidgan in a folder, in this process, with the words that a shell would make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VIDGAN_CACHE", str(folder / "cache"))
        # The reader exported PYTHONPATH=. and has installed the printed metric.
        patch.syspath_prepend(folder)
        # Priority can only be lowered: what runs later should not inherit that of a watch.
        patch.setattr("os.nice", lambda _: 0)
        return cli.run(words)


def typed(folder: Path, line: str) -> list[str]:
    """The words of a line that a reader types in a folder, which then holds what they name."""
    run = "runs/filling" if "--mask" in line else "runs/predicting"
    words = [_of_this_reader(folder, word, run) for word in shortened(line)]
    for word in words:
        _provide(folder, re.sub(r"^\w+=", "", word).rstrip("/"))
    found = {word: sorted(map(str, folder.glob(word))) for word in words if "*" in word}
    return [each for word in words for each in found.get(word) or [word]]


def shortened(line: str) -> list[str]:
    """The words of a command that would take minutes, for few steps on few clips."""
    words = words_of(line) or []
    words = [word for word in words if not re.match(r"(minutes|hours)=", word)]
    if words[0] == "train" and "--dry-run" not in words:
        words += SHORT
    if words[0] == "plan":
        words += ["--device", "h100"] * ("--device" not in words)
    if words[0] == "evaluate" and not {"--list", "--show", "--verify"} & set(words):
        own = {"stswd": [], "own-c2st": TWO_SAMPLES}
        words += JUDGED + next((own[word] for word in words if word in own), CLASSIFIER)
    if words[0] == "predict" and not {"clip.mp4", "--protocol"} & set(words):
        words += ["--num-clips", "4"]
    if words[0] == "project":
        words += ["--minutes", "0.02"]
    if words[:2] == ["data", "motions"]:
        words += ["--videos", "40", "--size", "16", "--frames", "12", "--heldout", "0.3"]
    return words


# ------------------------------------------------------------------------------------------------
# What commands name


def new_reader(folder: Path) -> Path:
    """Fill a folder with videos of two classes and a run that was evaluated."""
    call = "data motions my_clips --videos 40 --size 32 --frames 16 --objects disc"
    assert run_in(folder, [*call.split(), "--motions", "left,right", "--heldout", "0.25"]) == 0
    call = "train cpu/pvgan-clips-32x16 data=my_clips/ run=runs/mine"
    assert run_in(folder, typed(folder, f"vidgan {call}")) == 0
    call = "evaluate runs/mine --protocol stswd protocol.num_clips=8 protocol.sliced.directions=8"
    assert run_in(folder, call.split()) == 0
    return folder


def _of_this_reader(folder: Path, word: str, run: str) -> str:
    """A word with what this reader has in the place of what stands for it in documents."""
    word = re.sub(r"^RUN\b", run, word)
    word = re.sub(r"^RECORD\.json$", "runs/mine/evals/1a2b3c4d.json", word)
    if found := re.fullmatch(r"(.*/evals)/.*1a2b3c4d\.json", word):
        records = (folder / found[1]).glob("*.json")
        return str(min(records, key=lambda path: path.stat().st_mtime))
    return word


def _provide(folder: Path, name: str) -> None:
    if name in MATERIAL and not (folder / name).exists():
        MATERIAL[name](folder, folder / name)


def _copy_of(name: str) -> Callable[[Path, Path], None]:
    def make(folder: Path, path: Path) -> None:
        source = next(folder.glob(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, path)

    return make


def _without_classes(folder: Path, path: Path) -> None:
    for video in (folder / "my_clips").rglob("*.mp4"):
        split = path / video.relative_to(folder / "my_clips").parts[0]
        split.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, split / f"{video.parent.name}-{video.name}")


def _trained(words: str) -> Callable[[Path, Path], None]:
    def make(folder: Path, path: Path) -> None:
        call = f"vidgan train {words} run={path.relative_to(folder)}"
        _provide(folder, "other_clips")
        assert run_in(folder, shortened(call)) == 0

    return make


def _sampled(folder: Path, path: Path) -> None:
    assert run_in(folder, ["sample", "runs/mine", f"{path.name}/", "--num", "8"]) == 0


def _settings(folder: Path, path: Path) -> None:
    shutil.copy(ROOT / "configs/cpu/pvgan-clips-32x16.yaml", path)


def _suite(folder: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SUITE, encoding="utf-8")


MATERIAL: dict[str, Callable[[Path, Path], None]] = {
    "other_clips": _without_classes,
    "clip.mp4": _copy_of("my_clips/train/*/*.mp4"),
    "other.mp4": _copy_of("my_clips/heldout/*/*.mp4"),
    "ema.safetensors": _copy_of("runs/mine/checkpoints/*/ema.safetensors"),
    **{f"runs/{name}": _copy_of("runs/mine") for name in ("a", "b", "c", "again")},
    "runs/predicting": _trained(
        "cpu/hrvgan-predict-motions-16x12 model.latent=4 data=other_clips/"
    ),
    "runs/mocogan": _trained("cpu/mocogan-motions-16x8 data=my_clips/"),
    "runs/filling": _trained("cpu/ivgan-inpaint-motions-16x8 data=other_clips/"),
    "their_samples": _sampled,
    "my_settings.yaml": _settings,
    **{
        f"configs/bench/{name}.yaml": _suite
        for name in ("cpu-motions", "recipe", "recipe-digits", "recipe-filmed", "recipe-32")
    },
}
"""What a reader has besides, by its name; made when a command names it."""


def printed_code(folder: Path, page: str, module: str) -> None:
    """Save what a page prints as a module in the reader's folder."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    points = re.findall(r"^\[project\.entry-points\.(.*)\]\n(.*)$", text, re.MULTILINE)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"[{group.strip(chr(34))}]\n{point}\n" for group, point in points]
    (info / "entry_points.txt").write_text("".join(lines).replace('"', ""), encoding="utf-8")
