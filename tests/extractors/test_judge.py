"""The judge learns shape and motion, not colour; it is stored whole and judges row by row."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from metric_clips import CLASSES, Labelled, moving_shapes

from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.extractors import judge as judging
from vidgan.extractors.judge import (
    CARD_FILE,
    EXTRACTION_BATCH,
    WEIGHTS_FILE,
    ClassifierSettings,
    OwnClassifier,
    RealClips,
    augment_keeping_motion,
    obtain_judge,
    shuffled_batches,
    split_by_video,
    train_own_classifier,
)
from vidgan.extractors.networks.own_c3d import ClassHead, ClipClassifier
from vidgan.metrics.intervals import agreement

SMALL = ClassifierSettings(width=0.125, feature_dim=32, clips_seen=4800)


def train(shapes: Labelled, settings: ClassifierSettings = SMALL, seed: int = 0) -> OwnClassifier:
    return train_own_classifier(
        shapes.clips, shapes.labels, CLASSES, shapes.videos, seed=seed, settings=settings
    )


@pytest.fixture(scope="module")
def judge(training_shapes: Labelled) -> OwnClassifier:
    return train(training_shapes)


def test_it_learns_and_is_calibrated(judge: OwnClassifier, other_shapes: Labelled) -> None:
    assert judge.passed
    assert judge.report["accuracy"]["joint"] >= 0.95
    assert judge.report["calibration_error"] < 0.15
    assert judge.report["num_training_clips"] + judge.report["num_validation_clips"] == 240
    found = agreement(judge.probabilities(other_shapes.clips), other_shapes.labels, CLASSES)
    assert min(value for value in found.values() if value is not None) >= 0.95


def test_it_cannot_pass_on_colour_alone() -> None:
    """Classes that only colour tells apart are learnt without scrambling and not with it."""
    shapes = moving_shapes(180, seed=5)
    labels = torch.arange(180) % 3
    for i, label in enumerate(labels.tolist()):
        clip = shapes.clips[i]
        figure = clip.float().mean(0) > clip.float().mean()
        for channel in range(3):
            clip[channel] = torch.where(figure, 230 if channel == label else 60, 30)
    settings = dataclasses.replace(SMALL, clips_seen=2400)
    videos = [str(i) for i in range(180)]
    judges = {
        colour: train_own_classifier(
            shapes.clips,
            labels,
            ("red", "green", "blue"),
            videos,
            settings=dataclasses.replace(settings, colour=colour),
        )
        for colour in (True, False)
    }
    assert not judges[True].passed
    assert judges[False].passed


def test_rows_are_judged_one_by_one(judge: OwnClassifier, other_shapes: Labelled) -> None:
    clips = other_shapes.clips[:40]
    whole = judge.extract(clips)
    assert whole.features.shape == (40, 32)
    assert whole.features.dtype == torch.float32
    assert bool((whole.features >= 0).all())
    torch.testing.assert_close(whole.probabilities.sum(1), torch.ones(40))
    single = torch.cat([judge.features(clip[None]) for clip in clips])
    torch.testing.assert_close(single, whole.features, rtol=1e-4, atol=1e-4)
    assert torch.equal(judge.probabilities(clips), whole.probabilities)


def test_float_clips_equal_uint8_ones(judge: OwnClassifier, other_shapes: Labelled) -> None:
    clips = other_shapes.clips[:3]
    assert torch.equal(judge.features(clips / 127.5 - 1), judge.features(clips))


def test_training_repeats(training_shapes: Labelled) -> None:
    settings = dataclasses.replace(SMALL, clips_seen=128)
    before = torch.get_rng_state()
    first, again, other = (train(training_shapes, settings, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.hash == again.hash
    assert first.hash != other.hash


def test_saving_and_loading(judge: OwnClassifier, other_shapes: Labelled, tmp_path: Path) -> None:
    judge.save(tmp_path)
    loaded = OwnClassifier.load(tmp_path)
    assert (loaded.hash, loaded.report, loaded.settings) == (judge.hash, judge.report, SMALL)
    clips = other_shapes.clips[:5]
    assert torch.equal(loaded.features(clips), judge.features(clips))


def test_damaged_judges_are_refused(judge: OwnClassifier, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable classifier"):
        OwnClassifier.load(tmp_path)
    judge.save(tmp_path)
    card = json.loads((tmp_path / CARD_FILE).read_text())
    (tmp_path / CARD_FILE).write_text(json.dumps({**card, "hash": "0" * 16}))
    with pytest.raises(UserError, match="do not match their card"):
        OwnClassifier.load(tmp_path)
    (tmp_path / CARD_FILE).write_text(json.dumps({**card, "schema_version": 99}))
    with pytest.raises(UserError, match="schema version 99"):
        OwnClassifier.load(tmp_path)
    judge.save(tmp_path)
    weights = (tmp_path / WEIGHTS_FILE).read_bytes()
    (tmp_path / WEIGHTS_FILE).write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="no readable classifier"):
        OwnClassifier.load(tmp_path)


def test_clips_of_another_shape_are_refused(judge: OwnClassifier) -> None:
    with pytest.raises(UserError, match=r"\(3, 4, 16, 16\).*\(3, 4, 8, 16\)"):
        judge.extract(torch.zeros(1, 3, 4, 8, 16, dtype=torch.uint8))


def test_judges_are_kept_by_what_makes_them(
    training_shapes: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SMALL, clips_seen=64)
    trained = []

    def counting(*args: object, **kwargs: object) -> OwnClassifier:
        trained.append(kwargs["seed"])
        return train_own_classifier(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(judging, "train_own_classifier", counting)

    def obtain(labels: torch.Tensor, seed: int) -> OwnClassifier:
        clips = training_shapes.clips
        kept = obtain_judge(
            RealClips(clips, labels, tuple(training_shapes.videos)), CLASSES,
            seed=seed, settings=settings, cache=tmp_path,
        )  # fmt: skip
        return kept

    labels = training_shapes.labels
    assert obtain(labels, 0).hash == obtain(labels, 0).hash
    assert trained == [0]
    obtain(labels, 1)
    obtain(labels.flip(0), 1)
    assert trained == [0, 1, 1]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3


def test_no_video_is_on_both_sides() -> None:
    videos = [f"v{i // 3}" for i in range(60)]
    labels = torch.arange(60) // 15
    train_rows, check_rows = split_by_video(labels, videos, 0.2, seed=0)
    assert sorted(torch.cat([train_rows, check_rows]).tolist()) == list(range(60))
    sides = [{videos[row] for row in rows.tolist()} for rows in (train_rows, check_rows)]
    assert not sides[0] & sides[1]
    assert labels[check_rows].bincount().tolist() == [3, 3, 3, 3]
    assert not torch.equal(check_rows, split_by_video(labels, videos, 0.2, seed=1)[1])


def test_single_videos_train() -> None:
    labels = torch.tensor([0, 1, 1])
    train_rows, check_rows = split_by_video(labels, ["a", "b", "c"], 0.5, seed=0)
    assert 0 in train_rows.tolist()
    assert check_rows.shape == (1,)
    with pytest.raises(UserError, match="no class has two videos"):
        split_by_video(torch.tensor([0, 1]), ["a", "b"], 0.5, seed=0)


def test_augmentation_keeps_motion_and_order() -> None:
    clips = torch.randint(256, (16, 3, 4, 8, 8), dtype=torch.uint8)
    plain = augment_keeping_motion(clips, keyed_rng(0), colour=False, shift=0, mirror=False)
    assert torch.equal(plain, clips / 127.5 - 1)
    shifted = augment_keeping_motion(clips, keyed_rng(0), colour=False, shift=0.25, mirror=False)
    middle = slice(2, 6)
    moves = [
        [
            (y, x)
            for y in range(-2, 3)
            for x in range(-2, 3)
            if torch.equal(
                shifted[i, :, :, middle, middle],
                plain[i, :, :, 2 + y : 6 + y, 2 + x : 6 + x],
            )
        ]
        for i in range(16)
    ]
    assert all(len(found) == 1 for found in moves)
    assert len({found[0] for found in moves}) > 5
    mirrored = augment_keeping_motion(clips, keyed_rng(0), colour=False, shift=0, mirror=True)
    same = [torch.equal(a, b) for a, b in zip(mirrored, plain, strict=True)]
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(mirrored, plain, strict=True)]
    assert all(a != b for a, b in zip(same, turned, strict=True))
    assert any(turned)


def test_colour_maps_are_one_a_clip_and_linear() -> None:
    clips = torch.randint(256, (8, 3, 4, 8, 8), dtype=torch.uint8)
    plain = augment_keeping_motion(clips, keyed_rng(0), colour=False, shift=0, mirror=False)
    changed = augment_keeping_motion(clips, keyed_rng(0), colour=True, shift=0, mirror=False)
    for before, after in zip(plain.flatten(2), changed.flatten(2), strict=True):
        # Every new channel is a positive multiple of one old channel plus an offset.
        correlation = torch.corrcoef(torch.cat([before, after]))[3:, :3]
        assert bool((correlation.max(1).values > 0.9999).all())
        assert sorted(correlation.argmax(1).tolist()) == [0, 1, 2]


def test_every_clip_is_seen_once_an_epoch() -> None:
    rows = torch.arange(100, 112)
    batches = shuffled_batches(rows, 5, 5, (0,))
    assert [len(batch) for batch in batches] == [5] * 5
    walk = torch.cat(batches).tolist()
    assert sorted(walk[:12]) == sorted(walk[12:24]) == rows.tolist()
    assert walk[:12] != walk[12:24]


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((3, 16, 64, 64), (2, 2, 2)), ((3, 8, 32, 32), (2, 2, 2)), ((1, 4, 8, 16), (2, 2, 2))],
)
def test_the_network_fits_the_clip(
    shape: tuple[int, int, int, int], grid: tuple[int, int, int]
) -> None:
    network = ClipClassifier(shape, 5, width=0.125, feature_dim=16)
    clips = torch.randn(2, *shape)
    assert network.stages(clips).shape[2:] == grid
    features, logits = network(clips)
    assert features.shape == (2, 16)
    assert logits.shape == (2, 5)


def test_short_axes_train_in_float32_under_autocast() -> None:
    """bfloat16 weight gradients of these stages equal float32 ones, whatever the depth."""
    torch.manual_seed(0)
    network = ClipClassifier((3, 4, 16, 16), 3, width=0.5, feature_dim=16)
    clips = torch.randn(4, 3, 4, 16, 16)
    gradients = []
    for is_low in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_low):
            loss = network(clips).logits.float().square().mean()
        loss.backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for exact, low in zip(*gradients, strict=True):
        assert float((exact - low).norm()) <= 0.25 * float(exact.norm()) + 1e-6


@pytest.mark.parametrize("has_it", [True, False])
def test_bfloat16_that_would_be_emulated_gives_way_to_float32(
    has_it: bool, training_shapes: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = set()

    def note(module: torch.nn.Module, inputs: object, output: object) -> None:
        if isinstance(module, torch.nn.Conv3d) and isinstance(output, torch.Tensor):
            formats.add(output.dtype)

    monkeypatch.setattr("vidgan.extractors.judge.has_bfloat16", lambda device: has_it)
    batch = SMALL.batch_size
    handle = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        train(training_shapes, dataclasses.replace(SMALL, clips_seen=batch))
    finally:
        handle.remove()
    assert (torch.bfloat16 in formats) == has_it


def test_classes_share_rows_of_the_head() -> None:
    parts = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    head = ClassHead(8, 4, parts)
    features = torch.randn(3, 8)
    own, shared = head.own(features), [layer(features) for layer in head.shared]
    for index in range(4):
        expected = own[:, index] + shared[0][:, index // 2] + shared[1][:, index % 2]
        torch.testing.assert_close(head(features)[:, index], expected)


def test_settings_that_cannot_work_are_named() -> None:
    with pytest.raises(UserError, match="clips_seen=10"):
        ClassifierSettings(clips_seen=10)
    with pytest.raises(UserError, match="validation_share"):
        ClassifierSettings(validation_share=1.0)
    shapes = moving_shapes(8, seed=0)
    with pytest.raises(UserError, match="at least two classes"):
        train_own_classifier(shapes.clips, shapes.labels * 0, ("all",), shapes.videos)


def test_features_of_a_clip_do_not_depend_on_its_batch() -> None:
    shape, count = (3, 8, 16, 16), EXTRACTION_BATCH + 9
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ClipClassifier(shape, 4, width=1 / 16)
    judge = OwnClassifier(network, list("abcd"), shape, ClassifierSettings(), {})
    rng = torch.Generator().manual_seed(0)
    clips = torch.randint(256, (count, *shape), generator=rng, dtype=torch.uint8)
    together = judge.extract(clips)
    for size in (1, 2, 7, EXTRACTION_BATCH, count):
        for start in range(0, count, size):
            rows = slice(start, start + size)
            apart = judge.extract(clips[rows])
            assert torch.equal(apart.features, together.features[rows])
            assert torch.equal(apart.probabilities, together.probabilities[rows])
