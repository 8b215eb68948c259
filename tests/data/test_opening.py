"""One public name opens whatever holds real clips."""

from pathlib import Path

import pytest
import torch

import vidgan
from vidgan.data.build.packing import build_clips
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError
from vidgan.training.presets import save_config


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "videos"
    render_motions(
        folder,
        motion_settings(objects="disc", motions="left,right", size=16, frames=4),
        videos=12,
        heldout=0.25,
    )
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))


def test_a_folder_a_packed_set_and_a_run_open_alike(videos: Path, tmp_path: Path) -> None:
    build_clips(videos, tmp_path / "packed", DataConfig(resolution=16, frames=4))
    words = [f"data={videos}", "data.resolution=16", "data.frames=4", "seed=7"]
    save_config(tmp_path, vidgan.load_config("cpu/pvgan-motions-16x8", words))
    opened = [
        vidgan.open_dataset(videos, ["resolution=16", "data.frames=4"]),
        vidgan.open_dataset(str(videos), size=(4, 16)),
        # A packed set and a run know their own size.
        vidgan.open_dataset(tmp_path / "packed"),
        vidgan.open_dataset(tmp_path),
    ]
    assert [data.full_shape for data in opened] == [(3, 4, 16, 16)] * 4
    first, *others = (data.real_clips(5, seed=0)[0] for data in opened)
    assert all(torch.equal(first, clips) for clips in others)
    assert [data.seed for data in opened] == [0, 0, 0, 7]
    # A growing model's own sizes are stored beside the full one, as for training.
    assert [level.resolution for level in opened[3].store.levels] == [16, 8, 4]


def test_what_is_no_data_set_is_named(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no folder {tmp_path / 'nowhere'}: name a folder"):
        vidgan.open_dataset(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no setting frame; did you mean frames"):
        vidgan.open_dataset(videos, ["frame=4"])
    (tmp_path / "config.yaml").write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match="holds no settings of a run"):
        vidgan.open_dataset(tmp_path)


def test_an_address_in_the_settings_of_a_run_is_not_contacted(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contacted(url: str) -> None:
        pytest.fail(f"{url} was contacted")

    monkeypatch.setattr("vidgan.data.packed.writer.fetch_set", contacted)
    for address in ("s3://bucket/set", "gs://bucket/set", "azure://box/set", f"local:{videos}"):
        words = [f"data={address}", "data.resolution=16", "data.frames=4"]
        save_config(tmp_path, vidgan.load_config("cpu/pvgan-motions-16x8", words))
        with pytest.raises(UserError, match=f"repeat the command with data={address}"):
            vidgan.load_config(tmp_path)
        with pytest.raises(UserError, match=f"repeat the command with data={address}"):
            vidgan.open_dataset(tmp_path)
        # The user's own word counts.
        assert vidgan.load_config(tmp_path, [f"data={address}"]).data.path == address
    found = vidgan.open_dataset(tmp_path, [f"data={videos}"])
    assert found.full_shape == (3, 4, 16, 16)
