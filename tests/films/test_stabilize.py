"""Stabilisation: known camera motions are undone, every abort has its reason, restarts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

cv2 = pytest.importorskip("cv2", reason="needs the extra faces")

from vidgan.cli import main as cli  # noqa: E402
from vidgan.data.build.packing import DataConfig, build_clips  # noqa: E402
from vidgan.errors import UserError  # noqa: E402
from vidgan.films.item_work import SiftMatcher, grey_image  # noqa: E402
from vidgan.films.stabilize import (  # noqa: E402
    StabilizeConfig,
    bring_back,
    fit_square,
    homography,
    is_possible,
    stabilize,
    stabilize_folder,
)
from vidgan.video import FrameStream, read_frames, write_mp4  # noqa: E402

WIDTH, HEIGHT = 160, 120
CONFIG = StabilizeConfig(size=64, features=400)


def scenery(seed: int = 0) -> np.ndarray:
    """A wide image with features everywhere, RGB [300, 400, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 196, (15, 20, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (400, 300), interpolation=cv2.INTER_CUBIC)
    for _ in range(500):
        corner = rng.integers(0, (400, 300))
        size = rng.integers(3, 12, 2)
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        cv2.rectangle(image, corner.tolist(), (corner + size).tolist(), colour, -1)
    return image


def shaking(n: int) -> np.ndarray:
    """Map [3, 3] from the frame to the scenery: a camera in an unsteady hand."""
    angle = 0.03 * np.sin(1.3 * n)
    zoom = 1 + 0.02 * np.sin(0.7 * n)
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    shift = [120 + 6 * np.sin(0.9 * n), 90 + 5 * np.cos(1.1 * n)]
    return np.array([[c, -s, shift[0]], [s, c, shift[1]], [1e-5 * np.sin(n), 0, 1]])


def panning(n: int) -> np.ndarray:
    return np.array([[1, 0, 60.0 + 5 * n], [0, 1, 90], [0, 0, 1]])


def view(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(image, matrix, (WIDTH, HEIGHT), flags=flags)


def write_frames(path: Path, frames: list[np.ndarray]) -> Path:
    clip = torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)
    write_mp4(path, clip, 25.0, quality=10)
    return path


def shaken(path: Path, num_frames: int) -> Path:
    return write_frames(path, [view(scenery(), shaking(n)) for n in range(num_frames)])


def unrest(frames: np.ndarray) -> float:
    """Mean difference of the inner part of the frames from the first one."""
    inner = frames[:, frames.shape[1] // 4 : -frames.shape[1] // 4].astype(np.float64)
    return float(abs(inner - inner[0]).mean())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """One video for every fate."""
    folder = tmp_path_factory.mktemp("videos")
    shaken(folder / "train" / "lawn" / "shaken.mp4", 30)
    write_frames(
        folder / "train" / "lawn" / "panned.mp4", [view(scenery(), panning(n)) for n in range(30)]
    )
    flat = [np.full((HEIGHT, WIDTH, 3), 90 + n, np.uint8) for n in range(30)]
    write_frames(folder / "heldout" / "lawn" / "fog.mp4", flat)
    cuts = [view(scenery(n // 8), shaking(n)) for n in range(30)]
    write_frames(folder / "train" / "sea" / "cuts.mp4", cuts)
    (folder / "train" / "sea" / "broken.mp4").write_bytes(b"no video")
    return folder


def test_known_camera_motion_is_undone(videos):
    path = videos / "train" / "lawn" / "shaken.mp4"
    (clip,) = stabilize(FrameStream(path), CONFIG)
    assert (clip.ending, clip.aborted, len(clip.frames)) == ("the video ended", False, 28)
    source = np.stack([pixels for _, pixels in FrameStream(path, range(2, 30))])
    # What is left is two rounds of interpolation and the compression of the test video.
    assert unrest(np.stack(clip.frames)) < 0.25 * unrest(source)
    assert np.array_equal(clip.frames[0], source[0])


def test_homographies_agree_with_the_true_motion(videos):
    path = videos / "train" / "lawn" / "shaken.mp4"
    matcher = SiftMatcher(400, 0.7)
    (_, first), (_, second) = FrameStream(path, (4, 5))
    features = [matcher.features(grey_image(frame)) for frame in (first, second)]
    pairs = matcher.matches(features[1][1], features[0][1])
    found = homography(features[1][0][pairs[:, 0]], features[0][0][pairs[:, 1]], 5.0)
    true = np.linalg.inv(shaking(4)) @ shaking(5)
    corners = np.array([[0, 0, 1], [WIDTH, 0, 1], [WIDTH, HEIGHT, 1], [0, HEIGHT, 1.0]])
    mapped = [(m / m[:, 2:])[:, :2] for m in (corners @ found.T, corners @ true.T)]
    assert abs(mapped[0] - mapped[1]).max() < 1.0


def test_uncovered_border_is_filled_from_the_frame_before():
    pixels = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    previous = np.full((HEIGHT, WIDTH, 3), 50, np.uint8)
    shift = np.array([[1, 0, 40.0], [0, 1, 0], [0, 0, 1]])
    stable, cover = bring_back(pixels, shift, previous, 5)
    assert (stable[:, :40] == 50).all()
    # The erosion by 5 pixels takes 2 more from the moved border.
    assert (stable[:, 40:42] == 50).all()
    assert (stable[:, 42:] == 200).all()
    assert cover == pytest.approx(1 - 42 / WIDTH)


def test_impossible_motions_are_told_from_possible_ones():
    size = (HEIGHT, WIDTH)
    assert is_possible(np.eye(3), size, 0.25)
    assert is_possible(np.array([[1, 0, 49.0], [0, 1, 0], [0, 0, 1]]), size, 0.25)
    assert not is_possible(np.array([[1, 0, 51.0], [0, 1, 0], [0, 0, 1]]), size, 0.25)
    mirrored = np.array([[-1, 0, WIDTH], [0, 1, 0], [0, 0, 1.0]])
    assert not is_possible(mirrored, size, 0.25)
    behind = np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    assert not is_possible(behind, size, 9.0)
    assert not is_possible(np.full((3, 3), np.nan), size, 0.25)


def test_squares_are_the_middle_of_the_frame():
    frame = np.zeros((60, 100, 3), np.uint8)
    frame[:, 20:80] = 255
    assert (fit_square(frame, 30) == 255).all()
    assert fit_square(frame.transpose(1, 0, 2), 90).shape == (90, 90, 3)


@pytest.fixture(scope="module")
def built(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("stable") / "out"
    return out, stabilize_folder(videos, out, CONFIG, workers=0)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_every_video_is_accounted_for(built):
    out, report = built
    files = [path.relative_to(out).as_posix() for path in sorted(out.rglob("*.mp4"))]
    assert files == [
        "clips/train/lawn/panned.mp4.0.mp4",
        "clips/train/lawn/shaken.mp4.0.mp4",
    ]
    assert (report.num_videos, report.num_clips) == (5, 2)
    assert report.endings == {"the camera left the first view": 1, "the video ended": 1}
    aborted = dict(report.dropped)
    assert aborted["heldout/lawn/fog.mp4"] == "too few features match between neighbouring frames"
    assert aborted["train/sea/cuts.mp4"] == "too few features match between neighbouring frames"
    assert "cannot be read as video" in aborted["train/sea/broken.mp4"]
    text = "\n".join(report.lines())
    assert text.startswith("5 videos: 2 stabilised into 2 clips of")
    assert "2 x too few features match" in text
    clip = read_frames(out / files[1]).clip
    assert clip.shape == (3, 28, 64, 64)
    # The pan moves 5 of 160 pixels a frame: after 16 steps half of the view is gone.
    assert 15 <= read_frames(out / files[0]).clip.shape[1] <= 17


def test_data_build_keeps_the_folders_of_the_videos(built, tmp_path):
    out, _ = built
    config = DataConfig(resolution=32, frames=8, workers=0)
    report = build_clips(out / "clips", tmp_path / "set", config)
    assert report.num_clips == 2
    assert "lawn" in report.counts["train"]


def test_long_videos_are_cut_and_go_on_only_if_asked(tmp_path):
    shaken(tmp_path / "long.mp4", 60)
    config = replace(CONFIG, max_frames=20)
    ends = [
        [(len(clip.frames), clip.ending) for clip in stabilize(stream, kind)]
        for stream in [FrameStream(tmp_path / "long.mp4")]
        for kind in (config, replace(config, restart=True))
    ]
    full = (20, "the clip is full")
    assert ends == [[full], [full, full, (18, "the video ended")]]


def test_short_leftovers_and_restarts_after_cuts(videos):
    config = replace(CONFIG, restart=True, min_frames=7)
    clips = list(stabilize(FrameStream(videos / "train" / "sea" / "cuts.mp4"), config))
    # Cuts at frames 8, 16 and 24 of 30, the first two frames are passed over.
    assert [len(clip.frames) for clip in clips] == [6, 8, 8, 6]
    assert [clip.aborted for clip in clips] == [True, True, True, True]
    assert clips[-1].ending == "under 7 frames when the video ended"


def test_restart_continues_and_gives_the_same_with_any_workers(videos, built, tmp_path):
    first, _ = built
    out = tmp_path / "out"
    shutil.copytree(first, out)
    (record,) = [p for p in (out / "records").glob("*.json") if "shaken" in p.read_text()]
    record.unlink()
    folder = out / "clips" / "train" / "lawn"
    (folder / "shaken.mp4.7.mp4").write_bytes(b"left over")
    (folder / ".tmp-12-shaken.mp4.0.mp4").write_bytes(b"half")
    calls = []
    stabilize_folder(videos, out, CONFIG, workers=1, progress=lambda *call: calls.append(call))
    assert calls == [(5, 5, "making stabilised clips")]
    assert contents(out) == contents(first)
    assert not list(out.rglob(".tmp-12*"))
    with pytest.raises(UserError, match="features=400 and not 300"):
        stabilize_folder(videos, out, replace(CONFIG, features=300), workers=0)


def test_verb_prints_what_happened(videos, tmp_path, capsys):
    words = ["data", "stabilize", str(videos), str(tmp_path / "out"), "size=64", "features=400"]
    assert cli.run([*words, "--workers", "0"]) == 0
    printed = capsys.readouterr().out
    assert "5 videos: 2 stabilised into 2 clips" in printed
    assert f"clips: {tmp_path / 'out' / 'clips'}" in printed
    assert cli.run([*words, "--workers", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_clips"] == 2
    assert cli.run([*words, "--workers", "0", "min_cover=2"]) == 2
    assert "min_cover" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [{"size": 63}, {"ratio": 1.0}, {"max_frames": 8}, {"min_matches": 3}, {"ransac_pixels": 0.0}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        StabilizeConfig(**settings)
