"""Time stamps: files of any container, at their own rate and at whole fractions of it."""

import random
from dataclasses import replace
from fractions import Fraction

import pytest
from video_files import frame_numbers, write_video

from vidgan.data.build.encode import resampled
from vidgan.data.build.packing import build_clips, check_source
from vidgan.data.packed.store import open_store
from vidgan.data.settings import DataConfig
from vidgan.video import probe, read_frames

RATES = [12, 15, Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 48, 50]
RATES += [Fraction(60000, 1001), 60]
CLOCKS = {"exact": 0, "mp4": 1 / 90000, "webm": 1e-3, "gif": 1e-2}
CONTAINERS = {
    "mp4": {"options": {"bf": "2"}},
    "ts": {"codec": "mpeg2video"},
    "avi": {"codec": "mpeg4"},
    "mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "flv": {"codec": "flv"},
    "wmv": {"codec": "wmv2"},
    "gif": {"codec": "gif", "pix_fmt": "rgb8"},
}
CONFIG = DataConfig(resolution=32, frames=8, resize="stretch", workers=0)


def stored_times(rate, clock, jitter=0.0, count=97, seed=0):
    rng = random.Random(seed)
    times = [n / float(rate) + rng.uniform(-jitter, jitter) for n in range(count)]
    times = [round(t / clock) * clock for t in times] if clock else times
    return [t - times[0] for t in times]


@pytest.mark.parametrize("jitter", [0, 1e-3])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("rate", RATES)
def test_no_frame_repeats_or_is_skipped(rate, clock, jitter):
    for seed in range(10):
        times = stored_times(rate, CLOCKS[clock], jitter, seed=seed)
        if sorted(set(times)) != times:
            continue  # The clock is too coarse to keep these frames apart.
        for divisor in (1, 2, 3):
            # As people write it: 29.97, and not 30000 / 1001.
            for asked in (float(rate) / divisor, round(float(rate) / divisor, 3)):
                assert resampled(times, asked) == list(range(0, 97, divisor))


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("rate", RATES)
def test_faster_rates_show_every_frame_equally_often(rate, factor):
    frames = resampled(stored_times(rate, 1e-3, 1e-3), float(rate) * factor)
    assert frames == [n // factor for n in range(97 * factor)]


def test_a_long_frame_is_held_until_the_next_one():
    # Frames at 0, 40 and 80 ms, then nothing until 400 ms.
    assert resampled([0, 0.04, 0.08, 0.4, 0.44], 25) == [0, 1, *[2] * 8, 3, 4]


def test_one_frame_is_shown_once():
    assert resampled([0.0], 25) == [0]


@pytest.mark.parametrize("rate", [24, 30, Fraction(60000, 1001)])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_containers_at_their_own_rate(tmp_path, suffix, rate):
    if suffix == "gif" and rate > 50:
        pytest.skip("GIF has steps of 10 ms and players slow down what takes one")
    path = write_video(tmp_path / f"a.{suffix}", 24, fps=rate, **CONTAINERS[suffix])
    times = probe(path).frame_times_s
    assert resampled(times, float(rate)) == list(range(24))
    assert resampled(times, float(rate) / 3) == list(range(0, 24, 3))


def test_a_build_stores_each_frame_of_a_webm_once(tmp_path):
    for n in range(3):
        write_video(tmp_path / "v" / f"{n}.webm", 30, fps=30, first_number=n, **CONTAINERS["webm"])
    build_clips(tmp_path / "v", tmp_path / "set", replace(CONFIG, fps=30, clip="first"))
    store = open_store(tmp_path / "set")
    for n in range(3):
        assert frame_numbers(store.read(n, store.levels[0])) == list(range(n, n + 8))


def test_a_jitter_of_a_millisecond_is_no_variable_rate(tmp_path):
    rng = random.Random(1)
    times = [round(1000 * n / 60) + rng.choice([-1, 0, 1]) for n in range(60)]
    path = write_video(tmp_path / "phone.mp4", 60, times=[t - times[0] for t in times])
    assert not probe(path).is_variable_rate


def test_mixed_rates_are_said_aloud_with_the_way_out(tmp_path):
    for n, fps in enumerate((12, 25, 25, 50)):
        write_video(tmp_path / "v" / f"{n}.mp4", 30, fps=fps)
    notes = check_source(tmp_path / "v", CONFIG).set_notes
    told = next(note for note in notes if "different rates" in note)
    assert "2 at 25, 1 at 12, 1 at 50" in told
    assert "fps=25" in told
    resampled_notes = check_source(tmp_path / "v", replace(CONFIG, fps=12.0, frames=7)).set_notes
    assert not any("different rates" in note for note in resampled_notes)


def test_ntsc_beside_its_round_rate_is_not_mixed(tmp_path):
    for n, fps in enumerate((Fraction(30000, 1001), 30)):
        write_video(tmp_path / "v" / f"{n}.mp4", 30, fps=fps)
    assert not any("rates" in note for note in check_source(tmp_path / "v", CONFIG).set_notes)


def write_avi_with_repeats(path, shown):
    """An AVI in which only the frames `shown` have images; in between the last one stays."""
    import av
    from video_files import numbered_frame

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for n in shown:
            frame = av.VideoFrame.from_ndarray(numbered_frame(n), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_an_avi_that_leaves_repeats_out_is_whole(tmp_path):
    shown = [*range(10), *range(30, 50)]
    path = write_avi_with_repeats(tmp_path / "v" / "a.avi", shown)
    info = probe(path)
    assert (info.num_frames, info.num_missing) == (30, 0)
    assert frame_numbers(read_frames(path).clip) == shown
    report = check_source(tmp_path / "v", replace(CONFIG, fps=25.0, strict=True))
    assert not any("damaged" in note for _, note in report.notes)


def test_a_cut_avi_with_repeats_still_misses_its_end(tmp_path):
    path = write_avi_with_repeats(tmp_path / "a.avi", [*range(10), *range(30, 50)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    info = probe(path)
    assert info.num_frames < 30
    assert info.num_missing > 2
