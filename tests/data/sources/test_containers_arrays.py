"""NPY, NPZ and HDF5: orders of axes, ranges, labels; pickles, bombs and damage."""

import os
import pickle
import resource
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vidgan.data.settings import DataConfig
from vidgan.data.sources.containers.array_items import list_arrays, read_array_item
from vidgan.data.sources.containers.arrays import (
    clip_frames,
    find_axes,
    find_scale,
    open_arrays,
    read_npy,
)
from vidgan.data.sources.containers.reading import list_container, open_item
from vidgan.data.sources.layouts import scan_sources
from vidgan.errors import UserError
from vidgan.video import UnreadableVideoError

FOREIGN = Path(__file__).parent / "containers"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def videos(count: int = 6, frames: int = 5, side: int = 12, channels: int = 3) -> np.ndarray:
    """Clips NTHWC in which every place and every axis has another number."""
    shape = (count, frames, side, side, channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 16, 64, 64, 3), "NTHWC"),
        ((100, 3, 16, 64, 64), "NCTHW"),
        ((100, 16, 3, 64, 64), "NTCHW"),
        ((100, 16, 64, 64, 1), "NTHWC"),
        ((100, 1, 20, 64, 64), "NCTHW"),
        ((1, 20, 1, 64, 64), "NTCHW"),
        ((100, 3, 16, 64, 85), "NCTHW"),
        ((20, 10000, 64, 64), "TNHW"),
        ((10000, 20, 64, 64), "NTHW"),
        ((16, 64, 64, 3), "THWC"),
        ((3, 16, 64, 64), "CTHW"),
        ((16, 3, 64, 64), "TCHW"),
        ((16, 64, 64), "THW"),
    ],
)
def test_orders_of_axes_that_are_clear(shape, expected):
    assert find_axes(shape, "auto", "x") == expected
    assert find_axes(shape, expected, "x") == expected


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((100, 3, 3, 64, 64), "may be NCTHW or NTCHW: say which with data.axes=NCTHW"),
        ((20, 30, 64, 64), "may be NTHW or TNHW: say which with data.axes=NTHW"),
        ((100, 16, 64, 64, 2), "no known order"),
        ((100, 16, 4, 4, 3), "no known order"),
        ((64, 64, 3), "no known order"),
        ((5,), "no known order"),
    ],
)
def test_orders_that_nobody_can_tell_are_asked_for(shape, said):
    with pytest.raises(UserError, match=said):
        find_axes(shape, "auto", "x")


def test_an_asked_order_must_fit():
    assert find_axes((100, 3, 3, 64, 64), "NTCHW", "x") == "NTCHW"
    with pytest.raises(UserError, match=r"100x3x3x64x64, which data\.axes=NTHWC does not fit"):
        find_axes((100, 3, 3, 64, 64), "NTHWC", "x")
    with pytest.raises(UserError, match="does not fit"):
        find_axes((100, 64, 64), "NTHWC", "x")


@pytest.mark.parametrize("axes", ["NTHWC", "NCTHW", "NTCHW"])
def test_every_order_gives_the_same_frames(axes):
    clips = videos()
    array = clips.transpose(["NTHWC".index(letter) for letter in axes])
    for number in range(6):
        assert np.array_equal(clip_frames(array, number, axes, "bytes"), clips[number])


@pytest.mark.parametrize("axes", ["NTHW", "TNHW"])
def test_grey_becomes_three_equal_channels(axes):
    clips = videos()[..., 0]
    array = clips if axes == "NTHW" else clips.swapaxes(0, 1)
    expected = np.stack([clips[2]] * 3, axis=-1)
    assert np.array_equal(clip_frames(array, 2, axes, "bytes"), expected)


def test_alpha_is_left_out():
    clips = videos(channels=4)
    assert np.array_equal(clip_frames(clips, 1, "NTHWC", "bytes"), clips[1, ..., :3])


@pytest.mark.parametrize(
    ("array", "scale"),
    [
        (lambda x: x, "bytes"),
        (lambda x: x.astype(np.int64), "bytes"),
        (lambda x: x.astype(np.float32), "bytes"),
        (lambda x: x / np.float32(255), "unit"),
        (lambda x: (x / 255.0).astype(np.float64), "unit"),
        (lambda x: x / np.float32(127.5) - 1, "signed"),
    ],
)
def test_every_range_gives_the_same_bytes(array, scale):
    clips = videos()
    assert find_scale(array(clips), "x") == scale
    assert np.array_equal(clip_frames(array(clips), 3, "NTHWC", scale), clips[3])


def test_switches_are_black_and_white():
    clips = videos() > 128
    assert find_scale(clips, "x") == "unit"
    assert np.array_equal(clip_frames(clips, 0, "NTHWC", "unit"), clips[0] * np.uint8(255))


def test_one_odd_number_in_the_last_video_counts():
    clips = (videos() / 255.0).astype(np.float32)
    clips[-1, -1, -1, -1, -1] = -0.5
    assert find_scale(clips, "x") == "signed"
    clips[-1, -1, -1, -1, -1] = np.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        find_scale(clips, "x")


@pytest.mark.parametrize(
    "array", [np.array([0, 4000], np.uint16), np.array([-7.0, 2]), np.array([1j]), np.array(["a"])]
)
def test_unknown_ranges_are_one_sentence(array):
    with pytest.raises(UserError, match=r"holds numbers from|not numbers"):
        find_scale(array, "x")


def frames_of(path: Path) -> list[np.ndarray]:
    return [read_array_item(path, item.member).pixels for item in list_arrays(path, "auto").sources]


def test_an_npy_with_labels_beside_it(tmp_path):
    clips = videos()
    np.save(tmp_path / "a.npy", clips)
    np.save(tmp_path / "a_labels.npy", [0, 1, 2, 0, 1, 10])
    listing = list_arrays(tmp_path / "a.npy", "auto")
    assert [item.name for item in listing.sources] == [f"{n:06d}" for n in range(6)]
    assert [item.class_name for item in listing.sources] == [
        f"class-{n}" for n in ("00", "01", "02", "00", "01", "10")
    ]
    assert listing.notes == ["a (6x5x12x12x3 uint8) was read as NTHWC with numbers of 0 to 255"]
    assert all(
        np.array_equal(a, b) for a, b in zip(frames_of(tmp_path / "a.npy"), clips, strict=True)
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_with_labels_and_splits_inside(tmp_path, cache, save):
    clips = videos()
    save(
        tmp_path / "a.npz",
        x_train=clips[:4],
        x_test=clips[4:],
        y_train=np.array([1, 0, 1, 0]),
        y_test=np.array([[0], [1]]),
        class_names=np.array(["run", "wave"]),
    )
    listing = list_arrays(tmp_path / "a.npz", "auto")
    assert [(i.name, i.split, i.class_name) for i in listing.sources] == [
        ("x_train/000000", "train", "wave"),
        ("x_train/000001", "train", "run"),
        ("x_train/000002", "train", "wave"),
        ("x_train/000003", "train", "run"),
        ("x_test/000000", "test", "run"),
        ("x_test/000001", "test", "wave"),
    ]
    frames = frames_of(tmp_path / "a.npz")
    assert all(np.array_equal(a, b) for a, b in zip(frames, clips, strict=True))
    assert {p.name for p in tmp_path.iterdir()} <= {"a.npz", "cache"}


def test_words_and_one_hot_rows_are_labels_too(tmp_path):
    np.savez(tmp_path / "a.npz", video=videos(3), label=np.array(["b", "a", "b"]))
    items = list_arrays(tmp_path / "a.npz", "auto").sources
    assert [item.class_name for item in items] == ["b", "a", "b"]
    np.save(tmp_path / "b.npy", videos(3))
    np.save(tmp_path / "b_labels.npy", np.eye(3, dtype=np.float32)[[2, 0, 1]])
    items = list_arrays(tmp_path / "b.npy", "auto").sources
    assert [item.class_name for item in items] == ["class-2", "class-0", "class-1"]


def test_moving_mnist_as_it_is_published(tmp_path):
    clips = np.random.default_rng(0).integers(0, 256, (5, 40, 16, 16), np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", clips)
    listing = list_arrays(tmp_path / "mnist_test_seq.npy", "auto")
    assert len(listing.sources) == 40
    assert np.array_equal(frames_of(tmp_path / "mnist_test_seq.npy")[7][..., 1], clips[:, 7])


def test_hdf5_of_another_writer(tmp_path):
    pytest.importorskip("h5py", reason="HDF5 needs the extra arrays")
    listing = list_arrays(FOREIGN / "moving.h5", "auto")
    assert listing.what == "an HDF5 file"
    assert [item.class_name for item in listing.sources] == ["run", "wave"] * 3
    frames = frames_of(FOREIGN / "moving.h5")
    assert frames[4].shape == (4, 8, 8, 3)
    assert np.unique(frames[4][3]).tolist() == [30 * 4 + 5 * 3]


def test_hdf5_with_a_dataset_for_every_video(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs the extra arrays")
    clips = videos(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, clip in zip(("run/a", "run/b", "walk/c"), clips, strict=True):
            file[name] = clip[: 3 + len(name) % 2]
        file["walk/odd"] = np.zeros((7, 2, 2, 2))
        file["soft"] = h5py.SoftLink("/run/a")
        file["elsewhere"] = h5py.ExternalLink(str(FOREIGN / "moving.h5"), "/images")
    listing = list_arrays(tmp_path / "a.h5", "auto")
    assert [item.name for item in listing.sources] == ["run/a", "run/b", "walk/c"]
    assert [name for name, _ in listing.dropped] == ["walk/odd"]
    assert len(listing.notes) == 1
    assert "2 more arrays were read as THWC" in listing.notes[0]
    assert np.array_equal(frames_of(tmp_path / "a.h5")[2], clips[2, :3])


def test_hdf5_that_takes_from_other_files_or_claims_too_much(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs the extra arrays")
    (tmp_path / "secret.bin").write_bytes(bytes(16 * 8 * 8 * 3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["good"] = videos(2)
        file.create_dataset(
            "other",
            (16, 8, 8, 3),
            np.uint8,
            external=[(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)],
        )
        layout = h5py.VirtualLayout((6, 4, 8, 8, 3), np.uint8)
        layout[...] = h5py.VirtualSource(str(FOREIGN / "moving.h5"), "images", (6, 4, 8, 8, 3))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("bomb", (10_000, 64, 64, 64, 3), np.uint8, chunks=(1, 64, 64, 64, 3))
    listing = list_arrays(tmp_path / "a.h5", "auto")
    assert [item.name for item in listing.sources] == ["good/000000", "good/000001"]
    assert dict(listing.dropped) == {
        "other": "takes its numbers from other files",
        "virtual": "takes its numbers from other files",
        "bomb": "claims 7500 MiB out of 0 MiB stored, as a bomb does",
    }


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path(__file__).parent / "pickle-was-loaded",)


def test_pickles_are_never_loaded(tmp_path):
    mark = Path(__file__).parent / "pickle-was-loaded"
    np.save(tmp_path / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Evil()))
    np.savez(tmp_path / "c.npz", video=np.array([Evil()], dtype=object))
    np.savez(tmp_path / "d.npz", video=videos(2), table=np.array([Evil()], dtype=object))
    with pytest.raises(UserError, match=r"a\.npy holds pickled Python objects, which are never"):
        list_arrays(tmp_path / "a.npy", "auto")
    with pytest.raises(UserError, match=r"b\.npy is not a valid NPY file"):
        list_arrays(tmp_path / "b.npy", "auto")
    with pytest.raises(UserError, match=r"c\.npz holds no array of videos \(video.*pickled"):
        list_arrays(tmp_path / "c.npz", "auto")
    listing = list_arrays(tmp_path / "d.npz", "auto")
    assert len(listing.sources) == 2
    assert "pickled" in dict(listing.dropped)["table"]
    assert not mark.exists()


def test_cut_and_foreign_files_are_one_sentence(tmp_path):
    np.save(tmp_path / "a.npy", videos())
    data = (tmp_path / "a.npy").read_bytes()
    for length in (0, 5, 60, 200, len(data) - 1):
        (tmp_path / "a.npy").write_bytes(data[:length])
        with pytest.raises(UserError, match=r"a\.npy is not a valid NPY file"):
            open_arrays(tmp_path / "a.npy")
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="is not a zip or tar archive"):
        open_arrays(tmp_path / "a.npz")


def test_a_flipped_byte_in_an_npz_is_found(tmp_path):
    np.savez(tmp_path / "a.npz", video=videos())
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(UserError, match=r"no array of videos \(video cannot be unpacked \(Bad CRC"):
        list_arrays(tmp_path / "a.npz", "auto")
    # Of a large array, the header is whole; the damage is met when it is unpacked.
    np.savez(tmp_path / "b.npz", video=videos(60))
    data = bytearray((tmp_path / "b.npz").read_bytes())
    data[-1000] ^= 1
    (tmp_path / "b.npz").write_bytes(data)
    with pytest.raises(UserError, match=r"b\.npz is damaged \(Bad CRC-32"):
        list_arrays(tmp_path / "b.npz", "auto")


def test_a_bomb_in_an_npz_is_refused(tmp_path, cache):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("video.npy", bytes(96 << 20))
    with pytest.raises(UserError, match="as a decompression bomb does"):
        list_arrays(tmp_path / "a.npz", "auto")
    assert not cache.exists()


def test_damage_inside_of_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs the extra arrays")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("video", data=videos(4), chunks=(1, 5, 12, 12, 3), fletcher32=True)
        offset = file["video"].id.get_chunk_info(2).byte_offset
    data = bytearray((tmp_path / "a.h5").read_bytes())
    data[offset + 100] ^= 1
    (tmp_path / "a.h5").write_bytes(data)
    items = list_arrays(tmp_path / "a.h5", "auto").sources
    read_array_item(tmp_path / "a.h5", items[1].member)
    with pytest.raises(UnreadableVideoError, match="cannot be read"):
        read_array_item(tmp_path / "a.h5", items[2].member)
    (tmp_path / "b.h5").write_bytes(data[:1000])
    with pytest.raises(UserError, match="is not a valid HDF5 file"):
        list_arrays(tmp_path / "b.h5", "auto")


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(UserError, match=r"h5py is needed: pip install 'vidgan\[arrays\]'"):
        open_arrays(tmp_path / "a.h5")


def test_a_file_without_videos_says_what_it_holds(tmp_path):
    np.savez(tmp_path / "a.npz", weights=np.zeros((3, 4)), bias=np.zeros(3))
    with pytest.raises(UserError, match=r"no array of videos \(weights 3x4, bias 3\)"):
        list_arrays(tmp_path / "a.npz", "auto")


def test_a_header_that_claims_more_than_there_is_allocates_nothing(tmp_path):
    np.save(tmp_path / "a.npy", videos())
    data = (tmp_path / "a.npy").read_bytes()
    forged = data.replace(b"(6, 5, 12, 12, 3), }" + b" " * 8, b"(6, 500000000, 12, 12, 3), }")
    assert np.array_equal(read_npy(data, tmp_path / "a.npy"), videos())
    tracemalloc.start()
    with pytest.raises(UserError, match=r"claims 1,296,000,000,000 bytes, more than there are"):
        read_npy(forged[: len(data)], tmp_path / "a.npy")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_are_copied_once(dtype, channels):
    clip = np.full((8, 256, 256, channels), 7.4).astype(dtype)
    tracemalloc.start()
    pixels = clip_frames(clip, 0, "THWC", "bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pixels.flags.owndata
    assert np.unique(pixels).tolist() == [7]
    assert peak < 1.5 * pixels.nbytes


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([0, 1, np.inf]), "NaN or infinite"),
        (np.array([0, np.nan, 1]), "NaN or infinite"),
        (np.array([0, 1, 2], "M8[s]"), "holds datetime64.*, not labels"),
        (np.zeros(3, "V9"), "holds .*V9.*, not labels"),
        (np.zeros(3, [("a", "i4")]), ", not labels"),
        (np.zeros(3, np.complex64), "holds complex64, not labels"),
    ],
)
def test_labels_that_are_none_are_one_sentence(tmp_path, labels, said):
    np.save(tmp_path / "a.npy", videos(3))
    np.save(tmp_path / "a_labels.npy", labels)
    with pytest.raises(UserError, match=rf"a_labels\.npy: a_labels .*{said}"):
        list_arrays(tmp_path / "a.npy", "auto")


def test_groups_of_hdf5_are_walked_once_and_not_too_deep(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs the extra arrays")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/a"] = videos(2)
        file["again"] = file["run/a"]
        file["run/up"] = file["/"]
        file[b"\xff/b"] = videos(2)
    assert [*open_arrays(tmp_path / "a.h5").shapes] in (["again", "\\xff/b"], ["\\xff/b", "again"])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["g/" * 32 + "video"] = videos(2)
    assert len(list_arrays(tmp_path / "b.h5", "auto").sources) == 2
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["g/" * 33 + "video"] = videos(2)
    with pytest.raises(UserError, match="more than 32 deep"):
        list_arrays(tmp_path / "c.h5", "auto")


def test_named_pipes_are_no_containers_and_no_labels(tmp_path):
    np.save(tmp_path / "a.npy", videos(3))
    os.mkfifo(tmp_path / "a_labels.npy")
    assert len(list_arrays(tmp_path / "a.npy", "auto").sources) == 3
    for name in ("b.npy", "b.npz", "b.h5", "b.tfrecords", "b.tar", "b.zip"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match=rf"{name} is not a file"):
            list_container(tmp_path / name, "auto")
    for name in ("c.csv", "c.json", "index.json"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "c").mkdir()
    os.mkfifo(tmp_path / "c" / "n_frames")
    scan = scan_sources(tmp_path, DataConfig(resolution=8, frames=4))
    assert len(scan.sources) == 3


def test_an_item_larger_than_the_memory_is_one_sentence(tmp_path):
    info = tarfile.TarInfo("a.mp4")
    info.size = 3 << 29
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(info.tobuf())
        file.truncate(512 + info.size + 1024)
    (item,) = list_container(tmp_path / "a.tar", "auto").sources
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), limits[1]))
    try:
        with (
            pytest.raises(UnreadableVideoError, match="larger than the memory of this machine"),
            open_item(item.path, item.member),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_whole_array_beyond_the_address_space_is_not_called_damaged(tmp_path):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (65_536, 16, 64, 64, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 65_536 * 16 * 64 * 64 * 3)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), limits[1]))
    try:
        with pytest.raises(UserError, match=r"larger than what this process may address.*ulimit"):
            open_arrays(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert open_arrays(path).shapes == {"a": (65_536, 16, 64, 64, 3)}
