"""The motions set: repeatable, right in what it shows, its colours silent about the class."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from vidgan.data.synthetic.motions import (
    DIGITS,
    MOTIONS,
    PALETTES,
    SHAPES,
    MotionSettings,
    motion_clip,
    motion_settings,
    num_digit_images,
    render_motions,
)
from vidgan.errors import UserError
from vidgan.video import probe, read_frames


def masks(clip: torch.Tensor) -> torch.Tensor:
    """Where the object (with its dot) lies, [T, H, W], by the distance to the corner's colour."""
    pixels = clip.float()
    return (pixels - pixels[:, :1, :1, :1]).abs().sum(0) > 90


def centres(mask: torch.Tensor) -> torch.Tensor:
    """Mean (x, y) of every frame's mask, in frame sides, [T, 2]."""
    size = mask.shape[-1]
    places = (torch.arange(size) + 0.5) / size
    weight = mask.float() / mask.float().sum(dim=(1, 2), keepdim=True)
    return torch.stack([(weight.sum(1) * places).sum(1), (weight.sum(2) * places).sum(1)], 1)


def clip_of(
    name: str, motion: str, index: int = 0, size: int = 48, palette: str = "pastel"
) -> torch.Tensor:
    settings = MotionSettings(
        size=size, frames=8, objects=(name,), motions=(motion,), palette=palette
    )
    return motion_clip(settings, index)[0]


@pytest.mark.parametrize("name", [*SHAPES, "digit3"])
@pytest.mark.parametrize(
    ("motion", "direction"),
    [("left", (-1, 0)), ("right", (1, 0)), ("up", (0, -1)), ("down", (0, 1))],
)
def test_objects_travel_in_the_named_direction(name, motion, direction):
    places = centres(masks(clip_of(name, motion)))
    travelled = places[-1] - places[0]
    assert (travelled @ torch.tensor(direction, dtype=torch.float)).item() > 0.25
    assert (travelled - travelled.norm() * torch.tensor(direction)).abs().max() < 0.06
    steps = (places[1:] - places[:-1]) @ torch.tensor(direction, dtype=torch.float)
    assert (steps > 0).all()


@pytest.mark.parametrize("name", [*SHAPES, "digit3"])
@pytest.mark.parametrize(("motion", "sign"), [("grow", 1), ("shrink", -1)])
def test_objects_change_size_in_the_named_sense(name, motion, sign):
    areas = masks(clip_of(name, motion)).float().sum(dim=(1, 2))
    assert (sign * areas.diff() > 0).all()
    assert (areas[-1] / areas[0]).log().abs() > 1


@pytest.mark.parametrize("name", ["disc", "ring"])
@pytest.mark.parametrize(("motion", "sign"), [("rotate-right", 1), ("rotate-left", -1)])
@pytest.mark.parametrize("size", [16, 48])
def test_the_dot_turns_in_the_named_sense(name, motion, sign, size):
    clip = clip_of(name, motion, size=size, palette="vivid").float()
    # The dot is where the least of the three colours is high; no vivid object is pale.
    pale = (clip.amin(0) - clip.amin(0).flatten(1).quantile(0.5, 1)[:, None, None]).clamp(min=0)
    dot = centres((pale > 0.5 * pale.amax()).float())
    offset = dot - centres(masks(clip.byte())).mean(0)
    angles = torch.atan2(offset[:, 1], offset[:, 0])
    steps = (angles.diff() + torch.pi) % (2 * torch.pi) - torch.pi
    # y points down, so growing angles turn clockwise.
    assert (sign * steps).median() > 0.2
    assert 1.8 < sign * steps.sum() < 3.9


@pytest.mark.parametrize("name", ["disc", "ring"])
def test_palettes_move_no_pixel_and_the_dot_stands_out_in_both(name):
    vivid, pastel = (
        clip_of(name, "rotate-left", palette=palette).float() for palette in ("vivid", "pastel")
    )
    is_dot = vivid.amin(0) > 0.97 * 250
    assert is_dot.flatten(1).sum(1).min() >= 4
    dot = pastel[:, is_dot]
    assert (dot - PALETTES["pastel"].dot * 255).abs().max() < 6  # the dot has soft edges
    # The rest of the object is far lighter.
    is_object = (vivid.amax(0) > 180) & ~is_dot
    assert pastel.amax(0)[is_object].median() > dot.max() + 90


@pytest.mark.parametrize(
    ("name", "symmetry"), [("square", 4), ("cross", 4), ("triangle", 3), ("star", 5)]
)
@pytest.mark.parametrize(("motion", "sign"), [("rotate-right", 1), ("rotate-left", -1)])
def test_cornered_shapes_turn_in_the_named_sense(name, symmetry, motion, sign):
    mask = masks(clip_of(name, motion, size=64)).float()
    size = mask.shape[-1]
    places = (torch.arange(size) + 0.5) / size
    middle = centres(mask)
    offset = torch.complex(
        places[None, None, :] - middle[:, 0, None, None],
        places[None, :, None] - middle[:, 1, None, None],
    )
    # The moment of a shape's own symmetry turns `symmetry` times as fast as the shape.
    moment = (mask * offset**symmetry).sum(dim=(1, 2)).angle()
    steps = ((moment.diff() + torch.pi) % (2 * torch.pi) - torch.pi) / symmetry
    assert (sign * steps > 0.15).all()
    assert 1.8 < sign * steps.sum() < 3.9


@pytest.mark.parametrize("objects", [SHAPES, DIGITS])
def test_same_key_same_clip_other_key_other_clip(objects):
    settings = MotionSettings(size=16, frames=4, objects=objects)
    clip, label = motion_clip(settings, 5)
    assert clip.shape == (3, 4, 16, 16)
    assert clip.dtype == torch.uint8
    assert settings.classes[label] == f"{objects[0]}-rotate-right"
    assert torch.equal(clip, motion_clip(settings, 5)[0])
    other_seed = MotionSettings(size=16, frames=4, objects=objects, seed=1)
    for other in (
        motion_clip(settings, 5 + 8 * len(objects)),
        motion_clip(settings, 5, "heldout"),
        motion_clip(other_seed, 5),
    ):
        assert other[1] == label
        assert not torch.equal(other[0], clip)


@pytest.mark.parametrize("objects", [SHAPES, DIGITS])
def test_colours_do_not_tell_the_class(objects):
    """A nearest-class-mean rule on each clip's mean colour and contrast stays at chance."""
    settings = MotionSettings(size=16, frames=4, objects=objects)
    num_classes = len(settings.classes)
    clips = [motion_clip(settings, i) for i in range(20 * num_classes)]
    labels = np.array([label for _, label in clips])
    pixels = np.stack([clip.numpy().reshape(3, -1) for clip, _ in clips]).astype(float)
    features = np.concatenate([pixels.mean(2), pixels[:, :, :1].mean(2)], 1)
    features = (features - features.mean(0)) / features.std(0)
    for targets in (labels, labels // len(MOTIONS), labels % len(MOTIONS)):
        number = targets.max() + 1
        # Labels take turns, so alternate within each class.
        rounds = np.arange(len(targets)) // num_classes
        train, test = rounds % 2 == 0, rounds % 2 == 1
        means = np.stack([features[train & (targets == k)].mean(0) for k in range(number)])
        guesses = ((features[test, None] - means) ** 2).sum(2).argmin(1)
        accuracy = (guesses == targets[test]).mean()
        chance = 1 / number
        deviation = np.sqrt(chance * (1 - chance) / test.sum())
        assert accuracy < chance + 2 * deviation + 1e-9


def test_held_out_digits_are_other_images():
    for digit in range(10):
        train, heldout = num_digit_images(digit, "train"), num_digit_images(digit, "heldout")
        assert train + heldout > 170
        assert 20 < heldout < train


def test_render_writes_labelled_files_and_continues(tmp_path):
    out = tmp_path / "set"
    seen = []
    asked = motion_settings("disc,cross", "up grow", size=32, frames=4)
    render_motions(out, asked, videos=24, progress=lambda *state: seen.append(state))
    assert seen[-1] == (24, 24, "rendering motions")
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.mp4"))
    assert len(files) == 24
    assert files[0] == "heldout/cross-grow/0000.mp4"
    assert sum(name.startswith("heldout/") for name in files) == 4
    attributes = json.loads((out / "attributes.json").read_text())
    assert attributes["cross-up"] == {"object": "cross", "motion": "up"}

    settings = MotionSettings(size=32, frames=4, objects=("disc", "cross"), motions=("up", "grow"))
    clip, label = motion_clip(settings, 6)
    file = out / "train" / settings.classes[label] / "0001.mp4"
    assert (read_frames(file).clip.int() - clip.int()).abs().float().mean() < 5
    assert (probe(file).codec, probe(file).pixel_format) == ("h264", "yuv420p")

    before = file.read_bytes()
    file.unlink()
    record = json.loads((out / "motions.json").read_text())
    (out / "motions.json").write_text(json.dumps({**record, "finished": False}))
    render_motions(out, asked, videos=24)
    assert file.read_bytes() == before
    with pytest.raises(UserError, match="a motions set with size="):
        render_motions(out, dataclasses.replace(asked, size=48), videos=24)


def test_bad_requests_are_named(tmp_path):
    with pytest.raises(UserError, match="unknown object sqare"):
        render_motions(tmp_path / "a", motion_settings(objects="sqare"))
    with pytest.raises(UserError, match="unknown motion spin"):
        render_motions(tmp_path / "a", motion_settings(motions=["up", "spin"]))
    with pytest.raises(UserError, match="heldout=1"):
        render_motions(tmp_path / "a", heldout=1.0)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        render_motions(tmp_path)
