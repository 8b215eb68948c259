"""WebDataset shards out of packed sets: what they hold, for us and for the package webdataset."""

import io
import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from vidgan.cli.main import run
from vidgan.data.build.packing import DataConfig, build_clips
from vidgan.data.packed.export import export_clips
from vidgan.data.packed.store import open_store
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=16, frames=4, workers=0)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    videos = render_motions(
        folder / "v",
        motion_settings(objects="disc ring", motions="up", size=16, frames=4),
        videos=20,
        heldout=0.2,
    )
    build_clips(videos, folder / "set", CONFIG)
    return folder / "set"


def samples(path):
    """Parts of every sample of a shard by key, as plain tarfile reads them."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as archive:
        for info in archive:
            key, _, suffix = info.name.partition(".")
            found.setdefault(key, {})[suffix] = archive.extractfile(info).read()
    return found


def test_every_clip_is_written_exactly_once(packed, tmp_path):
    report = export_clips(packed, tmp_path / "out", shard_clips=7)
    assert report.shards == {
        "heldout-000000.tar": 4,
        "train-000000.tar": 7,
        "train-000001.tar": 7,
        "train-000002.tar": 2,
    }
    assert report.num_clips == 20
    store = open_store(packed)
    seen = []
    for name in report.shards:
        for key, parts in samples(tmp_path / "out" / name).items():
            assert list(parts) == ["npy", "cls", "json"]
            number = int(key)
            clip = np.load(io.BytesIO(parts["npy"]), allow_pickle=False)
            expected = store.read(number, (4, 16)).permute(1, 2, 3, 0)
            assert torch.equal(torch.from_numpy(clip), expected)
            item = store.items[number]
            assert int(parts["cls"]) == item.label
            about = json.loads(parts["json"])
            assert about["class_name"] == store.classes[item.label]
            assert about["split"] == item.split == name.partition("-")[0]
            assert (about["source"], about["fps"]) == (item.source, 8.0)
            assert about["attributes"]["motion"] == "up"
            seen.append(number)
    assert sorted(seen) == list(range(20))
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert index["shards"] == report.shards
    assert index["classes"] == list(store.classes)


def test_the_same_set_gives_the_same_bytes(packed, tmp_path):
    for name in ("a", "b"):
        export_clips(packed, tmp_path / name)
    first, second = (
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("a", "b")
    )
    assert first == second


def test_the_package_webdataset_reads_the_shards(packed, tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="the package webdataset reads shards")
    export_clips(packed, tmp_path / "out", shard_clips=10)
    shards = str(tmp_path / "out" / "train-{000000..000001}.tar")
    dataset = webdataset.WebDataset(shards, shardshuffle=False).decode()
    found = list(dataset)
    assert len(found) == 16
    store = open_store(packed)
    for sample in found:
        number = int(sample["__key__"])
        assert sample["cls"] == store.items[number].label
        assert sample["json"]["split"] == "train"
        clip = torch.from_numpy(sample["npy"]).permute(3, 0, 1, 2)
        assert torch.equal(clip, store.read(number, (4, 16)))


def test_videos_instead_of_arrays(packed, tmp_path):
    export_clips(packed, tmp_path / "out", "mp4")
    parts = samples(tmp_path / "out" / "train-000000.tar")
    assert all(part["mp4"][4:8] == b"ftyp" for part in parts.values())
    assert all(list(part) == ["mp4", "cls", "json"] for part in parts.values())


def test_a_set_without_classes_has_no_class_files(packed, tmp_path):
    videos = tmp_path / "v"
    videos.mkdir()
    for number, file in enumerate(sorted((packed.parent / "v").rglob("*.mp4"))[:3]):
        (videos / f"{number}.mp4").write_bytes(file.read_bytes())
    build_clips(videos, tmp_path / "set", replace(CONFIG, heldout_fraction=0.0))
    export_clips(tmp_path / "set", tmp_path / "out")
    for parts in samples(tmp_path / "out" / "train-000000.tar").values():
        assert list(parts) == ["npy", "json"]
        assert "class_name" not in json.loads(parts["json"])


def test_mistakes_are_one_sentence_and_leave_nothing(packed, tmp_path):
    with pytest.raises(UserError, match="is not a packed clip set"):
        export_clips(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="shard-clips 0 must be at least 1"):
        export_clips(packed, tmp_path / "out", shard_clips=0)
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="already exists"):
        export_clips(packed, tmp_path / "there")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_a_damaged_clip_ends_the_export_without_a_trace(packed, tmp_path):
    broken = shutil.copytree(packed, tmp_path / "set")
    chunk = next(broken.rglob("*.safetensors"))
    data = bytearray(chunk.read_bytes())
    data[-10] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(UserError, match="its checksum differs"):
        export_clips(broken, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_the_verb_says_what_it_wrote(packed, tmp_path, capsys):
    assert run(["data", "export", str(packed), str(tmp_path / "out"), "--shard-clips", "8"]) == 0
    assert "20 clips in 3 webdataset shards" in capsys.readouterr().out
    assert run(["data", "export", str(packed), str(tmp_path / "two"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_clips"] == 20
    assert run(["data", "export", str(packed), str(tmp_path / "out")]) == 2
    assert "already exists" in capsys.readouterr().err
