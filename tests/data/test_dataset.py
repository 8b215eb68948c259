"""Samples as pure functions of (seed, position): order, windows, flips, sizes, damage."""

import pickle
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from video_files import frame_numbers, write_video

from vidgan.core.clip_ops import pool_clip
from vidgan.data.build.packing import DataConfig, build_clips
from vidgan.data.dataset import ClipDataset, ClipRequest, central_window, first_window
from vidgan.data.packed.store import ClipStore, MemoryStore, open_store
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=16, frames=8, workers=0, heldout_fraction=0.0, resize="stretch")


def memory_store(num_clips: int = 30) -> MemoryStore:
    rng = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (num_clips, 3, 8, 16, 16), dtype=torch.uint8, generator=rng)
    splits = ["heldout" if i % 5 == 4 else "train" for i in range(num_clips)]
    return MemoryStore(clips, torch.arange(num_clips) % 3, classes=["a", "b", "c"], splits=splits)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Ten whole videos of 30 to 39 numbered frames, with a pyramid."""
    root = tmp_path_factory.mktemp("packed")
    for n in range(10):
        write_video(root / "v" / f"{n}.mp4", 30 + n, options={"crf": "8"}, size=(32, 32))
    config = replace(CONFIG, clip="random", resolution=32)
    build_clips(root / "v", root / "set", config, levels=[(4, 16), (2, 16)])
    return root / "set"


def test_every_epoch_serves_every_training_clip_once_in_another_order():
    dataset = ClipDataset(memory_store(), CONFIG, seed=3)
    assert (dataset.num_clips, len(dataset), dataset.num_classes) == (24, 24, 3)
    assert dataset.full_shape == (3, 8, 16, 16)
    assert dataset.classes == ("a", "b", "c")
    epochs = [
        [dataset[ClipRequest(p, 8, 16)]["index"] for p in range(24 * e, 24 * e + 24)]
        for e in range(3)
    ]
    train = [i for i in range(30) if i % 5 != 4]
    assert all(sorted(epoch) == train for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = ClipDataset(memory_store(), CONFIG, seed=4)
    assert [other.index_at(p) for p in range(24)] != epochs[0]


def test_a_sample_is_a_pure_function_of_seed_and_position():
    config = replace(CONFIG, flip=True)
    forward, backward = (ClipDataset(memory_store(), config, seed=3) for _ in range(2))
    first = [forward[ClipRequest(p, 8, 16)] for p in range(60)]
    second = [backward[ClipRequest(p, 8, 16)] for p in reversed(range(60))][::-1]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a["clip"], b["clip"])
        assert (a["label"], a["index"]) == (b["label"], b["index"])
        assert a["label"] == a["index"] % 3


def test_flips_are_off_unless_asked_for():
    store = memory_store()
    plain, flipping = (ClipDataset(store, replace(CONFIG, flip=f), seed=3) for f in (False, True))
    flipped = 0
    for p in range(200):
        sample, stored = flipping[ClipRequest(p, 8, 16)], store.read(plain.index_at(p), (8, 16))
        assert torch.equal(plain[ClipRequest(p, 8, 16)]["clip"], stored)
        is_flipped = torch.equal(sample["clip"], stored.flip(-1))
        assert is_flipped or torch.equal(sample["clip"], stored)
        flipped += is_flipped
    assert 70 < flipped < 130


def test_order_stays_inside_windows_of_chunks():
    store = memory_store(1000)
    store.items_per_chunk = 10
    dataset = ClipDataset(store, CONFIG, seed=0)
    order = [dataset.index_at(p) for p in range(dataset.num_clips)]
    assert sorted(order) == [i for i in range(1000) if i % 5 != 4]
    # 16 chunks of 10 clips, a fifth of them held out: 128 clips in a window.
    assert [len({i // 10 for i in order[k : k + 128]}) for k in range(0, 640, 128)] == [16] * 5
    assert len({i // 10 for i in order[:10]}) > 4


def test_any_whole_fraction_is_served_as_the_rounded_mean():
    store = memory_store()
    dataset = ClipDataset(store, CONFIG, seed=3)
    for frames, resolution in ((8, 16), (4, 16), (8, 4), (2, 8), (1, 1)):
        sample = dataset[ClipRequest(5, frames, resolution)]
        full = store.read(sample["index"], (8, 16))[None].double()
        factor = (8 // frames, 16 // resolution, 16 // resolution)
        expected = pool_clip(full, factor)[0].round().to(torch.uint8)
        assert torch.equal(sample["clip"], expected)
    for frames, resolution in ((3, 16), (8, 6), (16, 16), (8, 32), (0, 4)):
        with pytest.raises(UserError, match=f"{frames} frames at {resolution} pixels do not divi"):
            dataset[ClipRequest(5, frames, resolution)]


def test_stored_levels_show_the_same_window_as_the_full_size(packed):
    store = open_store(packed)
    config = replace(CONFIG, clip="random", resolution=32)
    dataset = ClipDataset(store, config, seed=1)
    starts = Counter()
    for p in range(80):
        full = dataset[ClipRequest(p, 8, 32)]
        numbers = frame_numbers(full["clip"])
        assert numbers == list(range(numbers[0], numbers[0] + 8))
        starts[numbers[0]] += 1
        for frames, resolution in ((4, 16), (2, 16), (2, 8)):
            sample = dataset[ClipRequest(p, frames, resolution)]["clip"]
            factor = (8 // frames, 32 // resolution, 32 // resolution)
            expected = pool_clip(full["clip"][None].double(), factor)[0].round().to(torch.uint8)
            assert torch.equal(sample, expected)
    # Windows start on whole groups of the coarsest stored level, and every group is used.
    assert set(starts) == set(range(0, 32, 4))


def test_levels_that_decide_what_is_read(packed):
    dataset = ClipDataset(open_store(packed), replace(CONFIG, clip="random", resolution=32), 1)
    assert dataset.levels_read(8, 32) == [(8, 32)]
    assert dataset.levels_read(4, 16) == [(8, 32), (4, 16)]
    assert ClipDataset(memory_store(), CONFIG, 1).levels_read(8, 16) == [(8, 16)]


@pytest.mark.parametrize("kind", ["videos", "JPEG strips"])
def test_real_clips_do_not_depend_on_the_levels_a_model_stores(tmp_path, kind):
    """Otherwise systems that grow and others would be compared with different real clips."""
    (tmp_path / "v").mkdir()
    for n in range(4):
        if kind == "videos":
            write_video(tmp_path / "v" / f"{n}.mp4", 17 + n, size=(16, 16))
        else:
            rng = np.random.default_rng(n)
            pixels = rng.integers(0, 256, ((17 + n) * 16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "v" / f"{n}.jpg")
    config = replace(CONFIG, clip="random", payload="jpeg")
    build_clips(tmp_path / "v", tmp_path / "plain", config)
    build_clips(tmp_path / "v", tmp_path / "grown", config, levels=[(4, 8), (2, 4)])
    plain, grown = (
        ClipDataset(open_store(tmp_path / name), config, seed=1) for name in ("plain", "grown")
    )
    for frames, resolution in ((8, 16), (4, 16)):
        windows = (None, first_window, central_window, lambda index, places: (7 * index) % places)
        for window in windows:
            pair = [
                torch.cat([b for b, _ in d.iter_clips("train", frames, resolution, 4, window)])
                for d in (plain, grown)
            ]
            assert torch.equal(*pair)
    assert [item.stored_frames for item in grown.store.items] == [17, 18, 19, 20]
    if kind == "videos":
        last = grown.iter_clips("train", 8, 16, 4, lambda _, places: places - 1)
        ((clips, _),) = last
        assert [frame_numbers(clip)[-1] for clip in clips] == [16, 17, 18, 19]


def test_smaller_clips_than_the_stored_ones_are_windows_of_them(packed):
    store = open_store(packed)
    config = replace(CONFIG, clip="first", resolution=16, frames=4)
    dataset = ClipDataset(store, config, seed=1)
    sample = dataset[ClipRequest(0, 4, 16)]["clip"]
    assert frame_numbers(sample) == [0, 1, 2, 3]
    central = ClipDataset(store, replace(config, clip="central"), seed=1)
    numbers = frame_numbers(central[ClipRequest(0, 4, 16)]["clip"])
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    assert 10 <= numbers[0] <= 18
    with pytest.raises(UserError, match=r"fewer than data\.frames=64"):
        ClipDataset(store, replace(config, frames=64), seed=1)
    with pytest.raises(UserError, match=r"data\.resolution=24"):
        ClipDataset(store, replace(config, resolution=24), seed=1)


def test_iteration_covers_a_split_in_store_order():
    store = memory_store()
    dataset = ClipDataset(store, CONFIG, seed=3)
    batches = list(dataset.iter_clips("heldout", 4, 8, batch_size=4))
    assert [clips.shape for clips, _ in batches] == [(4, 3, 4, 8, 8), (2, 3, 4, 8, 8)]
    labels = torch.cat([labels for _, labels in batches])
    assert labels.tolist() == [i % 3 for i in range(4, 30, 5)]
    assert dataset.heldout_split == "heldout"
    with pytest.raises(UserError, match="no clips in the split val: it has heldout, train"):
        next(dataset.iter_clips("val", 8, 16, 4))


def test_real_clips_are_different_and_repeatable():
    dataset = ClipDataset(memory_store(), CONFIG, seed=3)
    clips, labels = dataset.real_clips(10, seed=0)
    again, _ = dataset.real_clips(10, seed=0)
    other, _ = dataset.real_clips(10, seed=1)
    assert (clips.shape, labels.shape) == ((10, 3, 8, 16, 16), (10,))
    assert len({clip.numpy().tobytes() for clip in clips}) == 10
    assert torch.equal(clips, again)
    assert not torch.equal(clips, other)
    assert len(dataset.real_clips(99, seed=0, split="heldout")[0]) == 6


def test_unlabelled_clips_have_label_minus_one(packed):
    dataset = ClipDataset(open_store(packed), replace(CONFIG, clip="random"), seed=0)
    assert dataset.num_classes == 0
    assert dataset[ClipRequest(0, 8, 16)]["label"] == -1


def test_a_store_may_be_pickled_and_shared_by_threads(packed):
    store: ClipStore = open_store(packed)
    expected = [store.read(i, (8, 32)) for i in range(len(store))]
    copy = pickle.loads(pickle.dumps(store))
    with ThreadPoolExecutor(4) as threads:
        for each in (store, copy):
            read = list(threads.map(lambda i, s=each: s.read(i % 10, (8, 32)), range(40)))
            assert all(torch.equal(clip, expected[i % 10]) for i, clip in enumerate(read))


def test_damage_on_disk_is_named(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "set")
    file = folder / "level-8x32" / "chunk-00000.safetensors"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for damaged, message in (
        (bytes(flipped), r"clip \d \(\d\.mp4\).*checksum differs"),
        (whole[:-100], r"chunk-00000\.safetensors is damaged"),
        (None, r"chunk-00000\.safetensors is missing"),
    ):
        file.unlink()
        if damaged is not None:
            file.write_bytes(damaged)
        store = open_store(folder)
        with pytest.raises(UserError, match=message):
            [store.read(i, (8, 32)) for i in range(len(store))]
        # Other levels lie in other files.
        assert store.read(0, (4, 16)).shape[0] == 3
    with pytest.raises(UserError, match="no level"):
        store.read(0, (1, 1))
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_store(folder)
    with pytest.raises(UserError, match="is not a packed clip set"):
        open_store(tmp_path)
