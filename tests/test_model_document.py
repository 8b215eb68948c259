"""The model that docs/adding-a-model.md prints trains, samples and is scored like one of ours."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

import vidgan
from vidgan.data.build.packing import build_clips
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.evaluation.clips import EvaluationOptions
from vidgan.evaluation.generators import evaluate
from vidgan.sampling.storage import card_of
from vidgan.training.loop import open_clips

DOCUMENT = Path(__file__).parent.parent / "docs" / "adding-a-model.md"


@pytest.mark.parametrize("labelled", [True, False])
def test_printed_model_goes_all_the_way(
    labelled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "dense.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "dense", raising=False)
    importlib.invalidate_caches()
    render_motions(
        tmp_path / "videos",
        motion_settings(objects="disc", motions="left,right", size=16, frames=4),
        videos=32,
        heldout=0.25,
    )
    source = tmp_path / "videos" if labelled else unlabelled(tmp_path / "videos")
    build_clips(source, tmp_path / "clips", DataConfig(resolution=8, frames=4))

    words = [
        f"data={tmp_path / 'clips'}",
        "data.resolution=8",
        "data.frames=4",
        f"run={tmp_path / 'run'}",
        "model=dense:DenseConfig",
        "training.device=cpu",
        "training.precision.networks=fp32",
        "training.total_clips=32",
        "training.batch_size=8",
        "training.stable_clips=0",
        "training.fade_clips=0",
        "training.checkpoint_every=2",
        "training.num_samples=2",
    ]
    config = vidgan.load_config("cpu/pvgan-motions-16x8", words)
    run = vidgan.train(config)

    generator = vidgan.load_generator(run, "last")
    assert type(generator).__name__ == "DenseGenerator"
    assert card_of(generator).step == 4
    labels = torch.tensor([0, 1]) if labelled else None
    clips = vidgan.sample_clips(generator, vidgan.sample_latents(generator, [0, 1]), labels)
    assert clips.shape == (2, 3, 4, 8, 8)
    record = evaluate(
        run, open_clips(config, print), "stswd", options=EvaluationOptions(checkpoint="last")
    ).to_dict()
    assert record["scores"]["space_time_swd"]["value"] > record["scores"]["space_time_swd"]["real"]


def unlabelled(folder: Path) -> Path:
    """The same videos without class folders, a third of them held out."""
    flat = folder.with_name("flat")
    for number, video in enumerate(sorted(folder.rglob("*.mp4"))):
        target = flat / ("heldout" if number % 3 == 0 else "train") / f"{number}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(video.read_bytes())
    return flat
