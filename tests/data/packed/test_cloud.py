"""Packed sets with litdata's chunks: the same clips from a folder, from a cache and over S3."""

import json
import multiprocessing
import os
import shutil
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from object_store import ObjectStore

from vidgan.cli.main import run
from vidgan.data.build.packing import build_clips, cached_build
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.data.loader import make_loader
from vidgan.data.packed.cloud_export import export_to_litdata
from vidgan.data.packed.store import open_store
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=16, frames=4, workers=0, payload="zstd", heldout_fraction=0.25)
LEVELS = ((4, 16), (2, 8))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """20 clips in three chunks at two levels."""
    root = tmp_path_factory.mktemp("cloud")
    render_motions(
        root / "videos",
        motion_settings(objects="disc", motions="up down", size=16, frames=4),
        videos=20,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidgan.data.build.packing._CHUNK_BYTES", 1)
        build_clips(root / "videos", root / "set", CONFIG, LEVELS[1:])
    return root / "set"


@pytest.fixture(scope="module")
def exported(packed):
    pytest.importorskip("litdata", reason="needs the extra cloud")
    export_to_litdata(packed, packed.parent / "litdata")
    return packed.parent / "litdata"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch):
    """An S3 server on this machine that litdata's clients are sent to."""
    litdata = pytest.importorskip("litdata", reason="needs the extra cloud")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    # Stores on the internet are https; this one is not, which the client has to be allowed.
    options = {**litdata.streaming.downloader._OBSTORE_CLIENT_OPTIONS, "allow_http": True}
    monkeypatch.setattr("litdata.streaming.downloader._OBSTORE_CLIENT_OPTIONS", options)
    with ObjectStore() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.address)
        yield store


def all_clips(path) -> list[torch.Tensor]:
    store = open_store(path)
    # Backwards: items are found by number, whatever was read before.
    return [store.read(n, level) for n in reversed(range(len(store))) for level in LEVELS]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_folder_and_a_cached_copy_give_the_same_clips(packed, exported, cache):
    expected = all_clips(packed)
    assert equal(all_clips(exported), expected)
    assert not cache.exists()
    assert equal(all_clips(f"local:{exported}"), expected)
    assert len(list(cache.rglob("*.bin"))) == 6
    assert open_store(exported).items == open_store(packed).items
    assert "torchvision" not in sys.modules


def test_the_same_set_gives_the_same_bytes(packed, exported, tmp_path):
    export_to_litdata(packed, tmp_path / "again")
    for file in (path for path in exported.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / file.relative_to(exported)).read_bytes() == file.read_bytes()
    with pytest.raises(UserError, match="already exists"):
        export_to_litdata(packed, exported)


def test_training_sees_the_same_batches_from_everywhere(packed, exported):
    batches = {}
    for place in (packed, exported, f"local:{exported}"):
        config = replace(CONFIG, path=str(place), flip=True)
        dataset = ClipDataset(open_store(cached_build(config)), config, seed=5)
        requests = [[ClipRequest(4 * b + i, 2, 8) for i in range(4)] for b in range(8)]
        for workers in (0, 2):
            # Reading in this process first: what it has opened does not survive a fork.
            dataset[ClipRequest(0, 4, 16)]
            loader = make_loader(dataset, iter(requests), workers)
            batches[str(place), workers] = list(islice(loader, 8))
            loader.close()
    first, *others = batches.values()
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not multiprocessing.active_children()


def test_an_object_store_takes_and_gives_a_set(packed, server, capsys):
    words = ["data", "export", str(packed), "s3://bucket/sets/mine", "--format", "litdata"]
    assert run(words) == 0
    assert "20 clips in 3 litdata shards" in capsys.readouterr().out
    # The manifest makes it a set, so it came last.
    assert server.written[-1] == "/bucket/sets/mine/manifest.json"
    assert equal(all_clips("s3://bucket/sets/mine"), all_clips(packed))
    config = replace(CONFIG, path="s3://bucket/sets/mine", resolution=8)
    assert cached_build(config) == "s3://bucket/sets/mine"
    with pytest.raises(UserError, match=r"holds clips of 16 pixels.*data\.resolution=32"):
        cached_build(replace(config, resolution=32))
    assert run(words) == 2
    assert "holds a clip set already" in capsys.readouterr().err
    del server.objects["/bucket/sets/mine/level-4x16/chunk-0-1.bin"]
    shutil.rmtree(os.environ["VIDGAN_CACHE"])
    with pytest.raises(UserError, match=r"a chunk in s3://bucket/sets/mine/level-4x16, of clip 9"):
        open_store("s3://bucket/sets/mine").read(9, (4, 16))


def test_addresses_without_a_set_are_named(server, exported, packed, tmp_path):
    with pytest.raises(UserError, match="no packed clip set that can be read at s3://bucket/none"):
        open_store("s3://bucket/none")
    with pytest.raises(UserError, match=r"has the chunks of a local set.*--format litdata"):
        open_store(f"local:{packed}")
    with pytest.raises(UserError, match=r"azure://box/set cannot be written.*copy it with"):
        export_to_litdata(packed, "azure://box/set")


def test_damage_names_the_clip(exported, tmp_path):
    folder = Path(shutil.copytree(exported, tmp_path / "set"))
    chunk = folder / "level-2x8" / "chunk-0-2.bin"
    data = bytearray(chunk.read_bytes())
    data[-5] ^= 1
    chunk.write_bytes(data)
    store = open_store(folder)
    name = store.items[19].source
    with pytest.raises(UserError, match=rf"clip 19 \({name}\) in .*level-2x8 is damaged"):
        store.read(19, (2, 8))
    # A folder of another set of the same size.
    index = json.loads((folder / "level-2x8" / "index.json").read_text())
    index["chunks"].reverse()
    (folder / "level-2x8" / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="gives clip 16 for clip 0, it belongs to another set"):
        open_store(folder).read(0, (2, 8))


@pytest.mark.parametrize("kind", ["pickle", "numpy", "graph:pickle", "tensor"])
def test_chunks_that_ask_for_pickle_are_refused(kind, exported, tmp_path, monkeypatch):
    monkeypatch.setattr("pickle.loads", lambda *_: pytest.fail("something was unpickled"))
    folder = Path(shutil.copytree(exported, tmp_path / "set"))
    index = json.loads((folder / "level-4x16" / "index.json").read_text())
    index["config"]["data_format"] = ["int", kind]
    (folder / "level-4x16" / "index.json").write_text(json.dumps(index))
    for place in (folder, f"local:{folder}"):
        with pytest.raises(UserError):
            open_store(place).read(0, (4, 16))


CALLS = json.dumps(
    [1, {"type": "subprocess.Popen", "context": '["index"]', "children_spec": [{"type": None}]}]
)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table["config"].update(data_spec=CALLS),
        lambda table: table["config"].update(data_spec=None),
        lambda table: table["config"].update(item_loader="TokensLoader"),
        lambda table: table["config"].update(data_format=["int", "bytes", "pickle"]),
        lambda table: table["config"].update(compression="zstd"),
        lambda table: table.update(updated_at="../../elsewhere"),
        lambda table: table["chunks"][0].update(filename="../level-2x8/chunk-0-0.bin"),
        lambda table: table["chunks"][0].update(filename="/etc/passwd"),
        lambda table: table["chunks"][0].update(filename="..\\chunk-0-0.bin"),
        lambda table: table["chunks"][0].update(filename="link/chunk-0-0.bin"),
        lambda table: table["chunks"].append(7),
        lambda table: table.update(shards=table.pop("chunks")),
    ],
)
def test_an_index_that_vidgan_does_not_write_never_reaches_litdata(
    change, exported, tmp_path, monkeypatch
):
    def seen(*_args, **_options):
        pytest.fail("litdata was given the index")

    monkeypatch.setattr("litdata.streaming.config.treespec_loads", seen)
    monkeypatch.setattr("litdata.StreamingDataset", seen)
    folder = Path(shutil.copytree(exported, tmp_path / "set"))
    index = folder / "level-4x16" / "index.json"
    table = json.loads(index.read_text())
    change(table)
    index.write_text(json.dumps(table))
    for place in (folder, f"local:{folder}"):
        with pytest.raises(UserError, match="was not written by vidgan"):
            open_store(place).read(0, (4, 16))


def test_chunks_that_are_links_out_of_the_set_are_refused(exported, tmp_path):
    folder = Path(shutil.copytree(exported, tmp_path / "set"))
    chunk = folder / "level-4x16" / "chunk-0-0.bin"
    chunk.rename(tmp_path / "outside.bin")
    chunk.symlink_to(tmp_path / "outside.bin")
    with pytest.raises(UserError, match="a chunk that is a link or no file"):
        open_store(folder).read(0, (4, 16))


def test_without_litdata_a_sentence_names_the_extra(packed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litdata", None)
    for call in (
        lambda: export_to_litdata(packed, tmp_path / "out"),
        lambda: open_store("s3://bucket/set"),
    ):
        with pytest.raises(UserError, match=r"pip install 'vidgan\[cloud\]'"):
            call()
