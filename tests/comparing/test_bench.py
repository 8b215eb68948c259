"""Suites: reading, budgets, and a whole small comparison that continues where it stopped."""

from pathlib import Path

import pytest
import torch

from vidgan.comparing.bench import MotionsSpec, Suite, read_suite, run_bench
from vidgan.core.files import write_text_atomically
from vidgan.errors import UserError
from vidgan.models.base import ClipShape
from vidgan.training.budget import scale_schedule
from vidgan.training.cost import predict_seconds
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import load_config

SUITES = Path(__file__).parent.parent.parent / "configs" / "bench"

TINY = """
budget: {clips: 64}
seeds: [0, 1]
num_clips: 48
motions: {videos: 352, size: 16, objects: [square, ring], motions: [left, up]}
protocol: stswd
set: [training.device=cpu, training.sample_every=0, training.checkpoint_every=100]
systems:
  small: {preset: cpu/pvgan-motions-16x8, set: ["model.channels=[8, 4, 4]"]}
  doomed:
    preset: cpu/vgan-motions-16x8
    set:
      - loss.penalties.drift.weight=1e6
      - "training.discriminator={kind: sgd, lr: 10}"
"""


def suite_file(folder: Path, text: str = TINY) -> Path:
    path = folder / "suite.yaml"
    write_text_atomically(path, text)
    return path


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_suites_that_come_along_name_presets_that_fit_their_clips(path: Path) -> None:
    suite = read_suite(path)
    for system in suite.systems.values():
        words = ["data=clips", "run=runs/x", *suite.set, *system.set]
        config = load_config(system.preset, words)
        shape = ClipShape(3, config.data.frames, config.data.resolution, config.data.resolution)
        with torch.device("meta"):
            gan = config.model.build(shape, num_classes=16)
        assert plan_schedule(config, shape).levels[-1].resolution == config.data.resolution
        assert sum(weight.numel() for weight in gan.generator.parameters()) > 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("budget: {clips: 8}", "names no systems"),
        (TINY.replace("{clips: 64}", "{}"), "either clips or device_seconds"),
        (TINY.replace("{clips: 64}", "{clips: 8, device_seconds: 2}"), "either clips or"),
        (TINY.replace("seeds:", "sedes:"), "seeds"),
        (TINY.replace("preset: cpu/vgan", "prest: cpu/vgan"), "preset"),
    ],
)
def test_a_wrong_suite_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_suite(suite_file(tmp_path, text))
    with pytest.raises(UserError, match="there is no suite"):
        read_suite(tmp_path / "absent.yaml")


@pytest.mark.parametrize("factor", [0.1, 0.5, 2.0])
def test_scaling_keeps_the_shares_of_the_schedule(factor: float) -> None:
    config = load_config("cpu/pvgan-motions-16x8", ["data=x", "run=y"])
    shape = (3, 8, 16, 16)
    before = plan_schedule(config, shape)
    after = plan_schedule(scale_schedule(config, factor), shape)
    assert after.total == round(factor * before.total)
    for old, new in zip(before.starts, after.starts, strict=True):
        assert new / after.total == pytest.approx(old / before.total, abs=1e-3)
    assert after.batch_sizes == before.batch_sizes


@pytest.mark.slow
def test_a_suite_is_trained_evaluated_compared_and_continued(tmp_path: Path) -> None:
    said: list[str] = []
    suite = read_suite(suite_file(tmp_path))
    out = tmp_path / "bench"
    comparison = run_bench(suite, out, said.append, workers=2)

    (table,) = comparison.tables
    (row,) = table.rows
    assert row.label == "small"
    assert row.facts["seeds"] == "0, 1"
    assert row.facts["device-hours a run"]
    assert row.facts["device time a step"]
    assert all(len(cell.values) == 2 for cell in row.cells if cell.values)
    # The one that fails is named with its reason and stops nobody else.
    assert len(comparison.left_out) == 2
    assert all("doomed" in item and "not finite" in item for item in comparison.left_out)
    for suffix in ("html", "md", "csv", "tex"):
        assert (out / f"index.{suffix}").exists()
    # Below the real clip one strip of the system that was trained.
    assert "samples-8.png" in {path.name for path in out.iterdir()}

    # Once more: nothing is trained again but what failed.
    said.clear()
    again = run_bench(suite, out, said.append)
    assert again.tables == comparison.tables
    assert not any("small" in sentence for sentence in said)

    with pytest.raises(UserError, match="other budget"):
        run_bench(read_suite(suite_file(tmp_path, TINY.replace("64", "128"))), out)


@pytest.mark.slow
def test_the_predicted_cost_follows_the_schedule(tmp_path: Path) -> None:
    spec = Suite(budget=read_suite(suite_file(tmp_path)).budget, motions=MotionsSpec(videos=88))
    from vidgan.data.synthetic.motions import motion_settings, render_motions

    motions = spec.motions
    videos = render_motions(
        tmp_path / "videos",
        motion_settings(objects=["square"], motions=["left"], size=16, frames=8, seed=0),
        videos=motions.videos,
        heldout=motions.heldout,
    )
    words = [f"data={videos}", f"run={tmp_path / 'run'}", "model.channels=[8, 4, 4]"]
    config = load_config("cpu/pvgan-motions-16x8", words)
    once = predict_seconds(config, str)
    thrice = predict_seconds(scale_schedule(config, 3.0), str)
    # Timing on a busy machine is rough; a wrong unit or a forgotten level is not.
    assert 1.5 < thrice / once < 6
