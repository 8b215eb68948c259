"""Proving that a packed set is whole; damage is named item by item and ends with exit code 2."""

import json
import shutil

import pytest

from vidgan.cli.main import run
from vidgan.data.build.packing import build_clips, verify_set
from vidgan.data.packed.store import open_store
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=16, frames=4, workers=0, payload="zstd", heldout_fraction=0.0)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Twelve clips in two chunks at two levels."""
    root = tmp_path_factory.mktemp("verify")
    render_motions(
        root / "videos",
        motion_settings(objects="disc", motions="up down", size=16, frames=4),
        videos=12,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidgan.data.build.packing._CHUNK_BYTES", 1)
        build_clips(root / "videos", root / "set", CONFIG, levels=[(2, 8)])
    return root / "set"


def flip_byte(folder, place=-20):
    file = folder / "level-2x8" / "chunk-00001.safetensors"
    data = bytearray(file.read_bytes())
    data[place] ^= 0x10
    file.write_bytes(data)


def test_a_whole_set_is_read_and_reported(packed, tmp_path, capsys):
    report = verify_set(packed)
    assert (report.num_clips, report.levels) == (12, ((4, 16), (2, 8)))
    assert run(["data", "check", str(packed), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "all clips: read, and as they were stored" in capsys.readouterr().out


def test_a_flipped_byte_names_its_item(packed, tmp_path, capsys):
    folder = shutil.copytree(packed, tmp_path / "set")
    flip_byte(folder)
    last = open_store(folder).items[11].source
    assert run(["data", "check", str(folder)]) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    file = folder / "level-2x8" / "chunk-00001.safetensors"
    assert sentence.startswith(f"vidgan: clip 11 ({last}) in {file} is damaged, its checksum")


def test_a_missing_chunk_is_named_with_its_clips(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "set")
    (folder / "level-4x16" / "chunk-00001.safetensors").unlink()
    with pytest.raises(UserError, match=r"4 of the 12 clips.*numbers 8 \(.*mp4\), 9 \("):
        verify_set(folder)
    with pytest.raises(UserError, match=r"level-4x16/chunk-00001\.safetensors is missing"):
        open_store(folder).read(9, (4, 16))


def test_a_newer_manifest_asks_for_an_update(packed, tmp_path, capsys):
    folder = shutil.copytree(packed, tmp_path / "set")
    table = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**table, "schema": 99}))
    assert run(["data", "check", str(folder)]) == 2
    assert "made by a newer vidgan (schema 99, this one knows 1): update" in capsys.readouterr().err
    (folder / "manifest.json").write_text(json.dumps({**table, "format": "other"}))
    with pytest.raises(UserError, match=r"is not a packed clip set, its manifest\.json says other"):
        open_store(folder)
