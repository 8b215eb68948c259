"""Damages files in seeded ways: flipped bits, cuts, blocks swapped, dropped, zeroed or foreign."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from video_files import write_video

CLIPS = {
    "h264.mp4": {"options": {"g": "12", "bf": "2"}},
    "h264.mov": {"options": {"g": "250", "bf": "0"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "h264.mkv": {"options": {"g": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "h264.ts": {"options": {"g": "12"}},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "flash.flv": {"codec": "flv1"},
    "colours.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


def whole_clips(folder: Path, num_frames: int = 24) -> list[Path]:
    """A short video of numbered frames for every container of `CLIPS`."""
    return [write_video(folder / name, num_frames, **given) for name, given in CLIPS.items()]


def mutate(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """`data` after one to three kinds of damage."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        rng.choice((_flip, _flip, _header, _cut, _swap, _drop, _zero, _splice))(
            damaged, rng, others
        )
    return bytes(damaged)


def mutated_folder(folder: Path, numbers: Iterable[int]) -> list[str]:
    """Write a damaged video for each number, which decides all about it; returns their names."""
    clips = whole_clips(folder.with_name(f"{folder.name}-whole"))
    whole = [clip.read_bytes() for clip in clips]
    folder.mkdir(parents=True)
    names = []
    for number in numbers:
        rng = random.Random(f"damage {number}")
        clip = clips[number % len(clips)]
        names.append(f"{number:04d}-{clip.name}")
        (folder / names[-1]).write_bytes(mutate(whole[number % len(clips)], rng, whole))
    return sorted(names)


def _flip(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 10, 100)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _header(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    """Damage where containers keep their tables: the beginning and the end."""
    for _ in range(rng.choice((1, 4, 16)) if data else 0):
        place = rng.randrange(min(len(data), 1024))
        data[place if rng.random() < 0.7 else -1 - place] = rng.randrange(256)


def _cut(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _swap(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    size = max(1, len(data) // rng.choice((4, 20, 200)))
    first, second = sorted(rng.randrange(len(data) // size + 1) * size for _ in range(2))
    if second >= first + size:
        early, late = data[first : first + size], data[second : second + size]
        data[second : second + len(late)] = early[: len(late)]
        data[first : first + len(late)] = late


def _drop(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.randrange(1, 4096)]


def _zero(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.randrange(1, 4096))
    data[start:end] = bytes(end - start)


def _splice(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    start = rng.randrange(len(other))
    data[rng.randrange(len(data) + 1) :] = other[start:]
