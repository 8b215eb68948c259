"""Runs, checkpoints, input, samples and evaluations wherever they are computed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from device_cases import ON_CARD, assert_near
from training_cases import hash_of_ema, tiny_config

import vidgan
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.data.loader import make_loader
from vidgan.data.packed.store import MemoryStore, open_store
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.errors import UserError
from vidgan.evaluation.clips import EvaluationOptions
from vidgan.evaluation.protocols import PROTOCOLS
from vidgan.extractors.extractor import EXTRACTORS, load_extractor
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.sampling.storage import list_checkpoints, load_generator
from vidgan.training.graphs import CardCapture
from vidgan.training.logs import read_log
from vidgan.training.loop import train


def on(device: torch.device) -> str:
    return f"training.device={device.type}"


# ------------------------------------------------------------------------------------------------
# Runs


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Deterministic kernels alone; those without such a form only warn."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield
    torch.use_deterministic_algorithms(before)


@ON_CARD
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("loss", ["wgan-gp", "swgan"])
def test_a_continued_run_has_the_bits_of_an_uninterrupted_one(
    device: torch.device, loss: str, tmp_path: Path, packed_clips: Path
) -> None:
    # A change of level and a fade among the first 14 steps, then 6 more.
    words = (on(device), f"loss.name={loss}")
    train(tiny_config(tmp_path / "parts", packed_clips, *words, "training.total_clips=56"))
    train(tiny_config(tmp_path / "parts", packed_clips, *words))
    train(tiny_config(tmp_path / "whole", packed_clips, *words))
    assert list_checkpoints(tmp_path / "parts")[-1] == list_checkpoints(tmp_path / "whole")[-1]
    assert hash_of_ema(tmp_path / "parts") == hash_of_ema(tmp_path / "whole")


@ON_CARD
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(
    "words",
    [("loss.name=wgan-gp",), ("loss.name=ns-r1", "training.augment={colour: 1, translation: 0.1}")],
)
def test_graphs_give_the_bits_of_plain_steps(
    device: torch.device, words: tuple[str, ...], tmp_path: Path, packed_clips: Path
) -> None:
    # Two levels, a fade, lazy penalties.
    both = (on(device), "training.total_clips=400", "training.workers=1", *words)
    captured: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        real = CardCapture.__call__
        patch.setattr(
            CardCapture, "__call__", lambda self, work: captured.append(self) or real(self, work)
        )
        train(tiny_config(tmp_path / "graphs", packed_clips, *both))
        assert len(captured) >= 3
    train(tiny_config(tmp_path / "plain", packed_clips, *both, "training.cuda_graphs=false"))
    assert hash_of_ema(tmp_path / "graphs") == hash_of_ema(tmp_path / "plain")
    logs = [read_log(tmp_path / name / "log.jsonl")[-1] for name in ("graphs", "plain")]
    losses = [{key: line[key] for key in line if "/" in key} for line in logs]
    assert losses[0] == losses[1]


@ON_CARD
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_in_both_precisions_moves_finite_weights(
    device: torch.device, precision: str, tmp_path: Path, packed_clips: Path
) -> None:
    formats = f"training.precision={{networks: {precision}, penalty: {precision}}}"
    words = (on(device), formats, "training.log_every=1", "training.total_clips=56")
    run = train(tiny_config(tmp_path / "run", packed_clips, *words, "training.keep_checkpoints=9"))
    lines = read_log(run / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 15))
    losses = [value for line in lines for key, value in line.items() if "/" in key]
    assert losses
    assert all(torch.isfinite(torch.tensor(losses)))
    first, last = (load_generator(run, step).state_dict() for step in (0, 14))
    for name, weight in last.items():
        assert weight.isfinite().all()
        if name.startswith("blocks.0"):
            assert not torch.equal(weight, first[name]), name


@ON_CARD
def test_a_run_moves_to_the_cpu_and_back(
    device: torch.device,
    tmp_path: Path,
    packed_clips: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = (device.type, "cpu", device.type)
    for place, clips in zip(places, (56, 68, 80), strict=True):
        words = (f"training.device={place}", f"training.total_clips={clips}")
        run = train(tiny_config(tmp_path / "run", packed_clips, *words))
        generator = load_generator(run, "last")
        assert {weight.device.type for weight in generator.parameters()} == {"cpu"}
        clip = vidgan.sample_clips(generator, vidgan.sample_latents(generator, [0, 1]), _labels(2))
        assert clip.float().std() > 1
    assert list_checkpoints(run)[-1] == 20
    said = capsys.readouterr().err
    assert "continuing with device cuda -> cpu" in said
    assert "continuing with device cpu -> cuda" in said


@ON_CARD
def test_an_exhausted_card_is_one_sentence_with_what_helps(
    device: torch.device, tmp_path: Path, packed_clips: Path
) -> None:
    words = (on(device), "training.batch_size=16384")
    words += ("training.stable_clips=0", "training.fade_clips=0")
    config = tiny_config(tmp_path / "run", packed_clips, *words)
    # A hundredth of the card holds the weights and no batch of 16 thousand clips.
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        with pytest.raises(UserError) as caught:
            train(config)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    said = str(caught.value)
    assert said.startswith("the memory of the GPU ran out (tried to allocate")
    assert "at a batch of 16384 clips of 4x8x8 px; set training.accumulate=2" in said


# ------------------------------------------------------------------------------------------------
# Input


def requests(batches: int) -> Iterator[list[ClipRequest]]:
    return iter([[ClipRequest(4 * b + i, 4, 8) for i in range(4)] for b in range(batches)])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_reach_the_device_unchanged_and_without_a_wait(
    device: torch.device, workers: int, packed_clips: Path
) -> None:
    dataset = ClipDataset(open_store(packed_clips), DataConfig(resolution=8, frames=4), seed=0)
    expected = list(make_loader(dataset, requests(6), 0))
    if device.type == "cuda":
        # From here on a copy that makes the host wait is an error.
        torch.cuda.set_sync_debug_mode("error")
    try:
        loaded = list(make_loader(dataset, requests(6), workers, device))
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert len(loaded) == len(expected) == 6
    for batch, reference in zip(loaded, expected, strict=True):
        for tensor, other in zip(batch, reference, strict=True):
            assert torch.equal(tensor.cpu(), other)
        assert [tensor.device.type for tensor in batch] == [device.type, device.type, "cpu"]


# ------------------------------------------------------------------------------------------------
# Samples and scores


def _labels(count: int) -> torch.Tensor:
    return torch.arange(count) % 2


def small_generator() -> Any:
    torch.manual_seed(0)
    config = {"channels": (16, 16), "latent": 8, "label_dim": 4, "group_size": 2}
    return vidgan.build_gan(ProgressiveConfig(**config), (3, 4, 8, 8), 2).generator  # type: ignore[arg-type]


def test_samples_are_those_of_float64(device: torch.device) -> None:
    generator = small_generator()
    latents = vidgan.sample_latents(generator, range(6))
    expected = vidgan.sample_clips(generator.double(), latents, _labels(6), quantise=False)
    generator.to(device, torch.float32)
    clips = vidgan.sample_clips(generator, latents, _labels(6), quantise=False)
    assert clips.device.type == "cpu"
    assert_near(clips, expected, 1e-5, "clips")
    rounded = vidgan.sample_clips(generator, latents, _labels(6))
    exact = ((expected.clamp(-1, 1) + 1) * 127.5).round()
    assert (rounded.double() - exact).abs().max() <= 1


@pytest.mark.parametrize("name", ["random-c3d", "random-i3d-64", "inception-clean"])
def test_features_are_those_of_a_cpu(device: torch.device, name: str) -> None:
    # Seeded weights and narrow networks; clips in another order meet other neighbours.
    spec = replace(EXTRACTORS[name], weights=None, width=1 / 16, batch_clips=2)
    rng = torch.Generator().manual_seed(3)
    clips = torch.randint(256, (3, 3, 9, 24, 24), generator=rng, dtype=torch.uint8)
    expected = load_extractor(spec).arrays(clips)
    actual = load_extractor(spec, device=device).arrays(clips.flip(0))
    assert actual.keys() == expected.keys()
    for kind, rows in expected.items():
        assert actual[kind].device.type == "cpu"
        assert_near(actual[kind].flip(0), rows, 1e-4, kind)


@ON_CARD
def test_clips_are_scored_alike_on_a_device_and_a_cpu(device: torch.device) -> None:
    motions = MotionSettings(size=16, frames=4, objects=("square", "ring"), motions=("left", "up"))
    numbered = [motion_clip(motions, index) for index in range(72)]
    clips, labels = torch.stack([clip for clip, _ in numbered]), [label for _, label in numbered]
    splits = ["train"] * 48 + ["heldout"] * 24
    store = MemoryStore(clips, torch.tensor(labels), classes=motions.classes, splits=splits)
    data = ClipDataset(store, DataConfig(resolution=16, frames=4), seed=0)
    torch.manual_seed(0)
    sizes = ProgressiveConfig(channels=(6, 4, 4), latent=5, label_dim=4)
    generator = vidgan.build_gan(sizes, (3, 4, 16, 16), 4).generator
    # A network of seeded weights: a judge trained on the device would be another judge.
    protocol = replace(PROTOCOLS["random-c3d-fid"], num_clips=24, allow_few=True)
    expected, actual = (
        vidgan.evaluate(generator, data, protocol, EvaluationOptions(device=place))
        for place in ("cpu", device.type)
    )
    assert actual.environment["device"] == device.type
    assert actual.scores.keys() == expected.scores.keys() != set()
    for name, score in expected.scores.items():
        assert actual.scores[name].value == pytest.approx(score.value, rel=0.02), name
