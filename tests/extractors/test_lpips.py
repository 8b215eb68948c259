"""LPIPS of frames with converted weights, its files, and what is refused."""

from pathlib import Path

import pytest
import torch
import weight_files as wf
from array_layers import as_arrays
from test_network_lpips import STEPS, written_out
from torch import Tensor

from vidgan.errors import UserError
from vidgan.extractors.lpips import PerceptualDistance, load_perceptual
from vidgan.extractors.weights.checking import MissingEntryError, WrongShapeError, WrongValuesError
from vidgan.extractors.weights.converting import convert, examine
from vidgan.extractors.weights.reading import UnsafePickleError
from vidgan.metrics.image_quality import score_frames

FILES = {
    "alex": ("alexnet-owt-7be5be79.pth", "alex.pth"),
    "vgg": ("vgg16-397923af.pth", "vgg.pth"),
}


def converted(folder: Path, backbone: str) -> PerceptualDistance:
    """The distance with weights out of files named and filled as the published ones."""
    features, channels = FILES[backbone]
    entries = wf.torchvision_entries(wf.backbone_weights(backbone))
    wf.save_zip(folder / features, entries)
    wf.save_legacy(folder / channels, wf.lpips_entries(wf.channel_weights(backbone)))
    for file in (features, channels):
        convert(folder / file, unverified=True, folder=folder, width=wf.WIDTH)
    return load_perceptual(backbone, folder, width=wf.WIDTH)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Clips of two samples each, and the true ones."""
    rng = torch.Generator().manual_seed(0)
    samples = torch.randint(256, (2, 2, 3, 3, 32, 40), generator=rng, dtype=torch.uint8)
    truth = torch.randint(256, (2, 3, 3, 32, 40), generator=rng, dtype=torch.uint8)
    return samples, truth


@pytest.mark.parametrize("backbone", FILES)
def test_frames_of_clips_are_compared_with_the_numbers_of_the_files(
    tmp_path: Path, backbone: str, pair: tuple[Tensor, Tensor]
) -> None:
    samples, truth = pair
    distance = converted(tmp_path, backbone)
    found = distance(samples, truth[:, None])
    assert found.shape == (2, 2, 3)
    assert found.dtype == torch.float64

    weights = as_arrays(wf.backbone_weights(backbone) | wf.channel_weights(backbone))
    for clip, sample in ((0, 1), (1, 0)):
        frames = (
            x.double().movedim(0, 1).numpy() / 127.5 - 1
            for x in (samples[clip, sample], truth[clip])
        )
        expected = torch.from_numpy(written_out(*frames, weights, STEPS[backbone]))
        assert torch.allclose(found[clip, sample], expected, rtol=1e-5, atol=0)
    # To the bit, whatever stands beside a clip.
    assert torch.equal(distance(samples[1:, :1], truth[1:, None])[0, 0], found[1, 0])
    assert not distance(truth, truth).any()
    record = distance.record()
    assert [part["file"] for part in record["files"]] == list(FILES[backbone])
    assert not record["files"][0]["is_verified"]


def test_the_lowest_sample_is_the_best(tmp_path: Path, pair: tuple[Tensor, Tensor]) -> None:
    samples, truth = pair
    samples = torch.stack([samples[:, 0], truth], dim=1)
    distance = converted(tmp_path, "alex")
    scores = score_frames(samples, truth, {"again": truth, "noise": samples[:, 0]}, distance)
    assert list(scores) == ["psnr", "ssim", "lpips"]
    entry = scores["lpips"]
    assert entry["better"] == "lower"
    assert entry["best_of_k"] == entry["controls"]["again"] == 0
    assert entry["value"] == pytest.approx(entry["controls"]["noise"] / 2, rel=1e-12)
    assert entry["share_above"] == {"again": 0.0, "noise": 1.0}


def test_grey_clips_are_shown_as_three_equal_channels(tmp_path: Path) -> None:
    distance = converted(tmp_path, "vgg")
    rng = torch.Generator().manual_seed(1)
    clips = torch.randint(256, (2, 1, 2, 16, 16), generator=rng, dtype=torch.uint8)
    colour = clips.expand(-1, 3, -1, -1, -1)
    assert torch.equal(distance(clips[:1], clips[1:]), distance(colour[:1], colour[1:]))


def test_what_does_not_serve_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="lpips=squeeze is not a backbone of LPIPS: give alex or vgg"
    ):
        load_perceptual("squeeze", tmp_path)
    with pytest.raises(UserError, match=r"there is no file .*alexnet\.safetensors"):
        load_perceptual("alex", tmp_path)
    distance = converted(tmp_path, "alex")
    small = torch.zeros(1, 3, 2, 16, 16, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"at least 31 pixels .* have 16: .*, or say lpips=vgg$"):
        distance(small, small)
    with pytest.raises(UserError, match=r"have 8: leave lpips= away$"):
        distance(small[..., :8], small[..., :8])
    # The weights of another backbone under this name.
    (tmp_path / "lpips-vgg.safetensors").write_bytes(
        (tmp_path / "lpips-alex.safetensors").read_bytes()
    )
    converted_vgg = wf.torchvision_entries(wf.backbone_weights("vgg"))
    wf.save_zip(tmp_path / "vgg16-397923af.pth", converted_vgg)
    convert(tmp_path / "vgg16-397923af.pth", unverified=True, folder=tmp_path, width=wf.WIDTH)
    with pytest.raises(WrongShapeError, match=r"vgg16 and lpips-alex holds lin1\.weight"):
        load_perceptual("vgg", tmp_path, width=wf.WIDTH)


def test_wrong_files_raise_an_error_of_their_own(tmp_path: Path) -> None:
    entries = wf.lpips_entries(wf.channel_weights("alex"))
    wrong = {**entries, "lin2.model.1.weight": -entries["lin2.model.1.weight"]}
    with pytest.raises(WrongValuesError, match=r"lin2\.model\.1\.weight with negative weights"):
        examine(wf.save_zip(tmp_path / "alex.pth", wrong), wf.WIDTH)
    del wrong["lin2.model.1.weight"]
    with pytest.raises(MissingEntryError, match=r"no entry lin2\.model\.1\.weight"):
        examine(wf.save_safetensors(tmp_path / "alex.safetensors", wrong), wf.WIDTH)
    with pytest.raises(UnsafePickleError, match="so it could execute anything"):
        examine(wf.save_zip(tmp_path / "alex.pth", {"lin0.model.1.weight": open}), wf.WIDTH)
    (tmp_path / "alex.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(UserError, match=r"alex\.safetensors is none of the weight files"):
        examine(tmp_path / "alex.safetensors", wf.WIDTH)


@pytest.mark.parametrize("backbone", FILES)
def test_the_published_channel_weights_are_verified(tmp_path: Path, backbone: str) -> None:
    package = pytest.importorskip("torchmetrics")
    folder = Path(package.__file__).parent / "functional" / "image" / "lpips_models"
    path, source = convert(folder / f"{backbone}.pth", folder=tmp_path)
    assert source.is_verified
    assert path.stem == f"lpips-{backbone}"
