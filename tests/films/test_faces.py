"""Films to face clips, end to end, on a film made of a real portrait."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="needs the extra faces")

from face_films import (  # noqa: E402
    SCENES,
    Scene,
    eyes_of,
    passing,
    portrait,
    talking,
    write_film,
)
from landmark_plugins import MARK  # noqa: E402

from vidgan.data.build.engine import Engine  # noqa: E402
from vidgan.data.build.packing import DataConfig, build_clips  # noqa: E402
from vidgan.errors import UserError  # noqa: E402
from vidgan.films.faces.align import AlignConfig, shape_in_clip  # noqa: E402
from vidgan.films.faces.build import build_faces, film_key  # noqa: E402
from vidgan.films.faces.film import ClipConfig, FacesConfig  # noqa: E402
from vidgan.films.faces.landmarks import LandmarkConfig  # noqa: E402
from vidgan.films.faces.tracks import FaceConfig  # noqa: E402
from vidgan.video import FrameStream, probe  # noqa: E402

CONFIG = FacesConfig(faces=FaceConfig(width=240))
SMALL = FacesConfig(faces=FaceConfig(width=160), align=AlignConfig(size=64))
"""Quick, where the images do not matter."""

SHORT = (talking("somebody", 1, 34, 7),)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def start_of(name: str) -> int:
    """Frame at which a scene of the film begins."""
    names = [scene.name for scene in SCENES]
    return sum(scene.num_frames for scene in SCENES[: names.index(name)])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The clips of the whole film, at the thesis' size."""
    folder = tmp_path_factory.mktemp("faces")
    write_film(folder / "films" / "film.mp4")
    build_faces(folder / "films", folder / "out", CONFIG, workers=0)
    return folder / "out"


@pytest.fixture(scope="module")
def short_films(tmp_path_factory):
    """A folder with two films of one clip each, one in a folder of its own."""
    folder = tmp_path_factory.mktemp("short")
    write_film(folder / "a.mp4", SHORT)
    write_film(folder / "2019" / "b <i>.mp4", (talking("other", 2, 34, 8),))
    return folder


def record_of(out: Path) -> dict:
    (file,) = (out / "records").glob("*.json")
    return json.loads(file.read_text())


def test_the_film_gives_exactly_the_expected_clips(built):
    record = record_of(built)
    clips = [(clip["start"], clip["num_frames"]) for clip in record["clips"]]
    assert clips == [(start_of("first person"), 40), (start_of("second person"), 36)]
    files = sorted(path.name for path in (built / "clips").rglob("*.mp4"))
    assert files == [clip["file"] for clip in record["clips"]]
    for clip in record["clips"]:
        info = probe(built / "clips" / record["split"] / clip["file"])
        assert (info.num_frames, info.width, info.height) == (clip["num_frames"], 300, 300)
        assert info.fps == 24.0


def test_everything_else_is_counted_with_its_reason(built):
    record = record_of(built)
    assert record["num_frames"] == sum(scene.num_frames for scene in SCENES)
    assert record["funnel"] == {
        "shots": 6,
        "usable_shots": 5,
        "face_shots": 3,
        "runs": 3,
        "checked_runs": 3,
        "aligned": 3,
        "clips": 2,
    }
    assert record["dropped"] == {
        "usable_shots": {"shorter than 31 frames": 1},
        "face_shots": {"no face": 1, "no face for 31 frames in a row": 1},
        "clips": {"the person changes": 1},
    }
    report = build_faces(built.parent / "films", built, CONFIG, workers=0)
    assert report.num_clips == 2
    assert report.lengths == {
        "30-33": 0,
        "34-39": 1,
        "40-47": 1,
        "48-57": 0,
        "58-69": 0,
        "70 and more": 0,
    }
    assert report.num_clip_frames == 76
    assert "2 clips of one person" in report.lines()


@pytest.mark.parametrize(("index", "person"), [(0, 1), (1, 2)])
def test_eyes_are_within_two_pixels_of_their_place(built, index, person):
    record = record_of(built)
    file = built / "clips" / record["split"] / record["clips"][index]["file"]
    places = shape_in_clip(2, CONFIG.align)
    # What a frame would look like if the eyes of the portrait were known: its eye regions are
    # sought in every frame of the clip.
    eyes = eyes_of(person)
    vectors = [points[1] - points[0] for points in (eyes, places)]
    factor = complex(*vectors[1]) / complex(*vectors[0])
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    matrix = np.hstack([turn, (places[0] - turn @ eyes[0])[:, None]])
    ideal = cv2.warpAffine(portrait(person), matrix, (300, 300), flags=cv2.INTER_CUBIC)
    worst = 0.0
    for _, pixels in FrameStream(file):
        for x, y in places.round().astype(int):
            patch = ideal[y - 18 : y + 19, x - 26 : x + 27]
            area = pixels[y - 30 : y + 31, x - 38 : x + 39]
            match = cv2.matchTemplate(area, patch, cv2.TM_CCOEFF_NORMED)
            _, best, _, place = cv2.minMaxLoc(match)
            assert best > 0.9
            worst = max(worst, float(np.hypot(place[0] - 12, place[1] - 12)))
    assert worst <= 2.0


def test_contact_sheet_has_a_row_for_every_clip(built):
    (sheet,) = (built / "sheets").glob("*.png")
    assert read_frames_size(sheet) == (8 * 98 + 2, 2 * 98 + 2)


def read_frames_size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def test_data_build_reads_the_clips(built, tmp_path):
    config = DataConfig(resolution=32, frames=32, workers=0, heldout_fraction=0.0)
    assert build_clips(built / "clips", tmp_path / "set", config).num_clips == 2


def test_number_of_workers_does_not_change_a_byte(short_films, tmp_path):
    for workers in (0, 2):
        report = build_faces(short_films, tmp_path / str(workers), SMALL, workers=workers)
        assert report.num_clips == 2
    assert contents(tmp_path / "0") == contents(tmp_path / "2")


def test_finished_films_are_skipped_and_unfinished_ones_done_again(short_films, tmp_path):
    films, out = tmp_path / "films", tmp_path / "out"
    shutil.copytree(short_films, films)
    build_faces(films, out, SMALL, workers=0)
    whole = contents(out)
    untouched = out / "records" / f"{film_key('a.mp4')}.json"
    key = film_key("2019/b <i>.mp4")
    assert key.startswith("b-i-")
    (out / "records" / f"{key}.json").unlink()
    # What a kill leaves: a clip without a record, and half a file.
    (out / "clips" / "train" / f"{key}_s0007_c009.mp4").write_bytes(b"left over")
    (out / "clips" / "train" / ".tmp-1-x.mp4").write_bytes(b"half")
    written = untouched.stat().st_mtime_ns
    calls = []
    build_faces(films, out, SMALL, workers=0, progress=lambda *call: calls.append(call))
    assert calls == [(2, 2, "making face clips")]
    assert contents(out) == whole
    assert untouched.stat().st_mtime_ns == written
    assert not list(out.rglob(".tmp-1-*"))
    # A film with other contents under the same name is another film.
    shutil.copy(films / "a.mp4", films / "2019" / "b <i>.mp4")
    build_faces(films, out, SMALL, workers=0)
    assert contents(out) != whole
    assert untouched.stat().st_mtime_ns == written


def test_changed_settings_are_refused_by_name(short_films, tmp_path):
    out = tmp_path / "out"
    config = replace(SMALL, clips=ClipConfig(min_frames=40))
    report = build_faces(short_films, out, config, workers=0)
    assert (report.num_clips, report.funnel[-2].dropped) == (0, {"not 40 frames aligned": 2})
    with pytest.raises(UserError, match=r"clips\.min_frames=40 and not 32"):
        build_faces(short_films, out, SMALL, workers=0)


def test_foreign_folders_and_newer_schemas_are_refused(short_films, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds something else"):
        build_faces(short_films, tmp_path / "mine", SMALL, workers=0)
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "faces.json").write_text('{"format": "vidgan-faces", "schema": 99}')
    with pytest.raises(UserError, match="newer vidgan"):
        build_faces(short_films, newer, SMALL, workers=0)


def test_unusable_films_are_named_and_the_rest_goes_on(tmp_path):
    films = tmp_path / "films"
    write_film(films / "good.mp4", SHORT)
    (films / "empty.mp4").touch()
    (films / "noise.avi").write_bytes(np.random.default_rng(0).bytes(5000))
    report = build_faces(films, tmp_path / "out", SMALL, workers=0)
    assert report.num_clips == 1
    assert report.dropped[0] == ("empty.mp4", "the file is empty")
    assert report.dropped[1][0] == "noise.avi"
    assert report.funnel[1].dropped == {"films unusable": 2}


def marked(scene: Scene, colour: tuple[int, int, int]) -> Scene:
    def frame(n: int) -> np.ndarray:
        image = scene.frame(n).copy()
        image[:MARK, :MARK] = colour
        return image

    return replace(scene, frame=frame)


FRAGILE = replace(SMALL, landmarks=LandmarkConfig(backend="landmark_plugins:Fragile"))


def test_a_film_that_kills_its_worker_costs_one_record(tmp_path):
    films = tmp_path / "films"
    write_film(films / "good.mp4", SHORT)
    write_film(films / "deadly.mp4", (marked(SHORT[0], (255, 255, 255)),))
    report = build_faces(films, tmp_path / "out", FRAGILE, workers=1)
    assert report.num_clips == 1
    ((name, reason),) = report.dropped
    assert name == "deadly.mp4"
    assert "crashed" in reason


def test_a_film_in_which_code_fails_costs_one_record_and_can_be_retried(tmp_path):
    films, calls = tmp_path / "films", []
    write_film(films / "good.mp4", SHORT)
    write_film(films / "raising.mp4", (marked(SHORT[0], (255, 0, 0)),))
    for retry in (False, False, True):
        report = build_faces(
            films,
            tmp_path / "out",
            FRAGILE,
            workers=0,
            retry=retry,
            progress=lambda *call: calls.append(call[:2]),
        )
        assert report.num_clips == 1
        assert report.dropped == (("raising.mp4", "ArithmeticError: a red mark"),)
    assert calls == [(1, 2), (2, 2), (2, 2)]


@pytest.mark.slow
def test_a_film_that_hangs_costs_one_record(short_films, tmp_path):
    films = tmp_path / "films"
    shutil.copytree(short_films, films)
    write_film(films / "endless.mp4", (marked(SHORT[0], (0, 0, 0)),))
    report = build_faces(
        films, tmp_path / "out", FRAGILE, workers=1, engine=Engine(time_limit_s=30.0)
    )
    assert report.num_clips == 2
    assert report.dropped == (("endless.mp4", "took longer than 30 seconds"),)


@pytest.mark.slow
def test_killed_at_any_moment_a_restart_gives_the_same(short_films, tmp_path):
    words = ["data", "faces", str(short_films)]
    settings = ["faces.width=160", "align.size=64", "--workers", "1"]

    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "vidgan", *words, str(out), *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    began = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    duration = time.monotonic() - began
    for n in range(4):
        process = start(tmp_path / "cut")
        time.sleep(duration * (n + 1) / 5)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "cut").wait() == 0
    whole, cut = (contents(tmp_path / name) for name in ("whole", "cut"))
    # The page names the folder that it was made for.
    del whole["index.html"], cut["index.html"]
    assert whole == cut


def test_a_folder_in_use_is_refused(short_films, tmp_path):
    out = tmp_path / "out"
    code = (
        "import sys, fcntl, os\n"
        f"handle = os.open({str(out / '.tmp-lock')!r}, os.O_CREAT | os.O_RDWR)\n"
        "fcntl.flock(handle, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    out.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    try:
        with pytest.raises(UserError, match="another process"):
            build_faces(short_films, out, SMALL, workers=0)
    finally:
        holder.communicate(b"")


def test_all_clips_of_a_film_are_on_one_side(short_films, tmp_path):
    films = tmp_path / "films"
    for n in range(6):
        write_film(films / f"{n}.mp4", (passing("blink", 6, 3, n),))
    config = replace(SMALL, clips=ClipConfig(heldout_fraction=0.5))
    build_faces(films, tmp_path / "out", config, workers=0)
    records = [json.loads(p.read_text()) for p in (tmp_path / "out" / "records").glob("*.json")]
    splits = {record["name"]: record["split"] for record in records}
    assert set(splits.values()) == {"train", "heldout"}
    # The draw of a film does not depend on the others.
    (films / "6.mp4").write_bytes((films / "0.mp4").read_bytes())
    build_faces(films, tmp_path / "out", config, workers=0)
    again = [json.loads(p.read_text()) for p in (tmp_path / "out" / "records").glob("*.json")]
    assert splits.items() <= {record["name"]: record["split"] for record in again}.items()


def test_gaps_are_bridged_only_as_far_as_allowed(tmp_path):
    # Every eighth frame is dark: no face.
    scene = talking("flicker", 1, 40, 7)

    def flicker(n: int) -> np.ndarray:
        return scene.frame(n) // 12 if n % 8 == 5 else scene.frame(n)

    write_film(tmp_path / "films" / "flicker.mp4", (Scene("flicker", 40, flicker),))
    still = replace(SMALL.shots, threshold=0.01, flat_difference=250.0)
    config = replace(SMALL, shots=still, person=replace(SMALL.person, check=False))
    bridging = build_faces(tmp_path / "films", tmp_path / "bridged", config, workers=0)
    assert (bridging.num_clips, bridging.num_bridged) == (1, 5)
    strict = replace(config, faces=replace(config.faces, gap_frames=0))
    assert build_faces(tmp_path / "films", tmp_path / "thesis", strict, workers=0).num_clips == 0


def test_lossless_clips_keep_their_colours(tmp_path):
    write_film(tmp_path / "films" / "a.mp4", SHORT)
    config = replace(SMALL, clips=ClipConfig(lossless=True))
    build_faces(tmp_path / "films", tmp_path / "out", config, workers=0)
    (clip,) = (tmp_path / "out" / "clips").rglob("*.mp4")
    assert probe(clip).pixel_format in ("gbrp", "rgb24")
