"""Every format that is opened, made hostile: one sentence, in seconds, within bounded memory."""

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile_files as hostile
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vidgan
from vidgan.core.shapes import LevelShape
from vidgan.data.build.packing import build_clips
from vidgan.data.packed.manifest import MANIFEST_NAME, read_manifest
from vidgan.data.packed.payload import decode_payload, encode_payload
from vidgan.data.packed.store import open_store
from vidgan.data.packed.writer import chunk_file, item_key
from vidgan.data.settings import DataConfig
from vidgan.data.sources.containers.reading import list_container, open_item
from vidgan.errors import UserError
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.sampling.storage import GeneratorCard, plain_model, save_generator
from vidgan.video import UnreadableVideoError, VideoError, probe, read_frames
from vidgan.video.writing import write_mp4

SECONDS = 20
"""For one file; most take milliseconds, and machines under test are busy."""
GIBIBYTES = 3
"""Of address space beyond what is in use."""

SHAPE = (3, 4, 8, 8)
SIZE = 3 * 4 * 8 * 8


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail whatever takes long or asks for much memory."""

    def too_slow(*_: object) -> None:
        raise TimeoutError(f"not done after {SECONDS} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (GIBIBYTES << 30), limits[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for name in "abcd":
        array = np.random.default_rng(ord(name)).integers(0, 256, (4, 8, 8, 3), np.uint8)
        (folder / "videos").mkdir(exist_ok=True)
        np.save(folder / "videos" / f"{name}.npy", array)
    config = DataConfig(resolution=8, frames=4, payload="zstd", axes="THWC", workers=0)
    build_clips(folder / "videos", folder / "packed", config)
    return folder / "packed"


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "set"))


def read_all(folder: Path) -> None:
    store = open_store(folder)
    for index in range(len(store)):
        for level in store.levels:
            store.read(index, level)
    store.manifest.counts()


# ------------------------------------------------------------------------------------------------
# Packed sets

CHANGES = dict(hostile.manifest_changes())


def test_the_whole_set_is_read(packed: Path) -> None:
    read_all(packed)


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_hostile_manifests_are_one_sentence(name: str, copy: Path) -> None:
    path = copy / MANIFEST_NAME
    table = json.loads(path.read_text())
    CHANGES[name](table)
    path.write_text(json.dumps(table))
    try:
        read_all(copy)
    except UserError as error:
        _is_sentence(error)
    else:
        # What was changed is of no consequence: a remark, a date, a number of no use here.
        found = json.loads(json.dumps(table))
        assert len(found["items"]["label"]) == 4


def _is_sentence(error: UserError) -> None:
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", "{", "[" * 200_000, '{"a": ' * 50_000, "\xff", "9" * 9000]
)
def test_manifests_of_other_text_are_one_sentence(text: str, copy: Path) -> None:
    (copy / MANIFEST_NAME).write_text(text, encoding="latin-1")
    with pytest.raises(UserError):
        read_manifest(copy)


@pytest.mark.parametrize("kind", hostile.payloads(SIZE))
def test_hostile_payloads_are_one_sentence(kind: str) -> None:
    data = hostile.payloads(SIZE)[kind]
    with pytest.raises(UserError, match="the payload"):
        decode_payload(data, "zstd", SHAPE)


@pytest.mark.parametrize("codec", ["raw", "zstd", "jpeg", "h264"])
def test_payloads_of_another_size_are_one_sentence(codec: Any) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32), np.uint8)
    data = encode_payload(clip, codec)
    for shape in [(3, 5, 32, 32), (3, 3, 32, 32), (3, 4, 16, 16), (3, 4, 64, 64)]:
        with pytest.raises(UserError):
            decode_payload(data, codec, shape)
    for broken in (b"", data[: len(data) // 3], data[::-1], bytes(len(data)), b"\xff" * 500):
        if codec == "raw" and len(broken) == len(data):
            continue
        with pytest.raises(UserError):
            decode_payload(broken, codec, (3, 4, 32, 32))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(0, dtype=torch.uint8),
        torch.zeros(SIZE),
        torch.zeros(3, 4, 8, 8, dtype=torch.uint8),
        torch.zeros((), dtype=torch.uint8),
        torch.zeros(10, dtype=torch.int64),
    ],
    ids=str,
)
def test_hostile_tensors_in_chunks_are_one_sentence(tensor: torch.Tensor, copy: Path) -> None:
    file = chunk_file(copy, LevelShape(4, 8), 0)
    tensors = load_file(file)
    save_file({**tensors, item_key(0): tensor}, file)
    with pytest.raises(UserError):
        read_all(copy)


@pytest.mark.parametrize("kind", ["fifo", "folder", "empty", "gone", "header", "length", "loop"])
def test_hostile_chunk_files_are_one_sentence(kind: str, copy: Path) -> None:
    file = chunk_file(copy, LevelShape(4, 8), 0)
    file.unlink()
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file)
    elif kind != "gone":
        starts = {
            "empty": b"",
            "header": b"\xff" * 64,
            "length": b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
        }
        file.write_bytes(starts[kind])
    with pytest.raises(UserError):
        read_all(copy)


def test_a_manifest_that_is_a_pipe_is_none(copy: Path) -> None:
    (copy / MANIFEST_NAME).unlink()
    os.mkfifo(copy / MANIFEST_NAME)
    with pytest.raises(UserError, match="is not a packed clip set"):
        open_store(copy)


# ------------------------------------------------------------------------------------------------
# Containers

CONTAINERS = {**hostile.archives(), **hostile.arrays(), **hostile.tfrecords()}


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_hostile_containers_are_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    file, data = CONTAINERS[name]
    path = tmp_path / file
    path.write_bytes(data)
    started = time.monotonic()
    try:
        for item in list_container(path, "auto").sources[:3]:
            with open_item(path, item.member) as reader:
                reader.probe()
                reader.read(None, 8, "stretch")
    except UserError as error:
        _is_sentence(error)
    assert time.monotonic() - started < SECONDS
    assert not list(tmp_path.parent.glob("a.mp4"))


# ------------------------------------------------------------------------------------------------
# Videos


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "secret.mp4"
    write_mp4(path, torch.zeros(3, 4, 16, 16, dtype=torch.uint8), 8)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "gif", "avi"])
@pytest.mark.parametrize("kind", hostile.texts_that_ffmpeg_reads(Path("x")))
def test_no_video_reads_another_file(kind: str, suffix: str, secret: Path, tmp_path: Path) -> None:
    shutil.copy(secret, tmp_path / "secret.mp4")
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(hostile.texts_that_ffmpeg_reads(secret)[kind])
    with pytest.raises(VideoError):
        probe(path)


@pytest.mark.parametrize(
    "name",
    ["concat:secret.mp4", "file:secret.mp4", "http:x.mp4", "12:30.mp4", "pipe:0.mp4", "%03d.mp4"],
)
def test_names_are_names_and_no_addresses(
    name: str, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(secret, tmp_path / "secret.mp4")
    with pytest.raises(UnreadableVideoError):
        probe(Path(name))
    shutil.copy(secret, tmp_path / name)
    assert read_frames(Path(name)).clip.shape == (3, 4, 16, 16)


# ------------------------------------------------------------------------------------------------
# Generators


CONFIG = ProgressiveConfig(channels=(4, 4))
GENERATOR = vidgan.build_gan(CONFIG, (3, 4, 8, 8)).generator
CARD = GeneratorCard(
    model=plain_model(CONFIG),
    clip_shape=(3, 4, 8, 8),
    num_classes=0,
    class_names=(),
    stage=GENERATOR.stage,
    fps=8.0,
    step=0,
    clips_seen=0,
    loss="swgan",
)


def _plain_card() -> dict[str, Any]:
    from vidgan.core.settings import to_dict

    return to_dict(CARD)


CARDS = dict(hostile.cards(_plain_card()))


@pytest.mark.parametrize("name", CARDS)
def test_hostile_cards_are_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "ema.safetensors"
    save_generator(path, GENERATOR, CARD)
    save_file(load_file(path), path, metadata={"vidgan": hostile.as_json(CARDS[name])})
    try:
        generator = vidgan.load_generator(path)
        vidgan.sample_clips(generator, vidgan.sample_latents(generator, [0]))
    except UserError as error:
        _is_sentence(error)
    else:
        # Widths that were given level by level do not go by these.
        assert name.partition("=")[0] in ("channel_base", "group_size", "label_dim")


@pytest.mark.parametrize("header", ["", "null", "[]", "{", "[" * 100_000, "9" * 9000])
def test_cards_of_other_text_are_one_sentence(header: str, tmp_path: Path) -> None:
    path = tmp_path / "ema.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"vidgan": header})
    with pytest.raises(UserError, match="damaged 'vidgan' header"):
        vidgan.load_generator(path)


def test_a_generator_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ema.safetensors")
    with pytest.raises(UserError):
        vidgan.load_generator(tmp_path / "ema.safetensors")


def test_there_are_many_variants() -> None:
    assert len(CHANGES) + len(CONTAINERS) + len(CARDS) > 400
