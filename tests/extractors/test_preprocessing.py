"""Resize kernels and preparations of the published codes against formulas written out here."""

import math

import numpy
import pytest
import torch
from PIL import Image

from vidgan.errors import UserError
from vidgan.extractors.networks import preprocessing as prep
from vidgan.extractors.networks.preprocessing import (
    KERNELS,
    MEAN_SHAPE,
    Preprocessing,
    centre_crop,
    resize_frames,
)

Array = numpy.ndarray


def frames_of(height: int, width: int, count: int = 2) -> torch.Tensor:
    rng = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(count, 3, height, width, generator=rng) * 255


def hat(distance: float) -> float:
    return max(0.0, 1 - abs(distance))


def cubic(distance: float, a: float) -> float:
    """Keys' kernel (Keys 1981, eq. 4 with free a)."""
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def matrix(kernel: str, old: int, new: int) -> Array:
    """Weights `[new, old]` of one axis: every target cell as a sum over source cells."""
    weights = numpy.zeros((new, old))
    for target in range(new):
        if kernel == "bilinear-corners":
            source = target * (old - 1) / max(new - 1, 1)
        elif kernel == "bilinear-tf1":
            source = target * old / new
        else:
            source = (target + 0.5) * old / new - 0.5
        if kernel == "bicubic-antialias":
            # Pillow: the kernel grows with the shrinkage, its part outside the image is cut off.
            scale = max(old / new, 1.0)
            values = [cubic((place - source) / scale, -0.5) for place in range(old)]
            weights[target] = numpy.array(values) / sum(values)
            continue
        # The others repeat the border cells.
        for place in range(math.floor(source) - 2, math.floor(source) + 4):
            if kernel == "bicubic":
                weight = cubic(place - source, -0.75)
            else:
                weight = hat(place - source)
            weights[target, min(max(place, 0), old - 1)] += weight
    return weights


def written_out(frames: Array, size: tuple[int, int], kernel: str) -> Array:
    rows = matrix(kernel, frames.shape[2], size[0])
    columns = matrix(kernel, frames.shape[3], size[1])
    return rows @ frames.astype(float) @ columns.T


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel != "none"])
@pytest.mark.parametrize(
    ("old", "new"), [((64, 64), (128, 128)), ((9, 13), (22, 17)), ((30, 20), (7, 20))]
)
def test_kernels_equal_their_formulas(
    kernel: str, old: tuple[int, int], new: tuple[int, int]
) -> None:
    frames = frames_of(*old)
    found = resize_frames(frames, new, kernel)
    expected = written_out(frames.numpy(), new, kernel)
    assert found.shape == (2, 3, *new)
    assert numpy.abs(found.numpy() - expected).max() < 1.5e-3


def test_the_kernel_of_tensorflow_1_gives_its_numbers() -> None:
    # tf.compat.v1.image.resize_bilinear of TensorFlow 2.21.
    small = torch.tensor([[0.0, 10], [20, 40], [30, 80]])[None, None]
    expected = torch.tensor(
        [
            [0.0, 6.666667, 10],
            [12, 22.666668, 28],
            [22, 39.333336, 48],
            [28, 57.333336, 72],
            [30, 63.333336, 80],
        ]
    )
    assert torch.allclose(resize_frames(small, (5, 3), "bilinear-tf1")[0, 0], expected, atol=1e-4)


@pytest.mark.parametrize(("old", "new"), [(64, 299), (300, 299), (64, 17)])
def test_the_antialiased_kernel_is_pillows(old: int, new: int) -> None:
    frame = frames_of(old, old, 1)
    found = resize_frames(frame, (new, new), "bicubic-antialias")
    for channel in range(3):
        image = Image.fromarray(frame[0, channel].numpy())
        expected = numpy.asarray(image.resize((new, new), Image.Resampling.BICUBIC))
        assert numpy.abs(found[0, channel].numpy() - expected).max() < 1e-4


@pytest.mark.parametrize(("old", "new"), [(64, 128), (64, 112), (100, 37)])
def test_the_cubic_and_linear_kernels_are_those_of_opencv(old: int, new: int) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is in the extra faces")
    frame = frames_of(old, old, 1)
    image = frame[0].permute(1, 2, 0).numpy().copy()
    for kernel, flag in (("bicubic", cv2.INTER_CUBIC), ("bilinear", cv2.INTER_LINEAR)):
        expected = cv2.resize(image, (new, new), interpolation=flag)
        found = resize_frames(frame, (new, new), kernel)[0].permute(1, 2, 0).numpy()
        assert numpy.abs(found - expected).max() < 2e-3


def test_kernels_differ_by_grey_levels_and_leave_equal_sizes_alone() -> None:
    frames = frames_of(32, 32)
    found = {k: resize_frames(frames, (112, 112), k) for k in KERNELS if k != "none"}
    for first in found:
        for second in found:
            if first < second:
                assert float((found[first] - found[second]).abs().mean()) > 0.5, (first, second)
    for kernel in KERNELS:
        assert torch.equal(resize_frames(frames, (32, 32), kernel), frames)


def test_unknown_kernels_and_forbidden_resizes_are_refused() -> None:
    with pytest.raises(UserError, match="no resize kernel 'lanczos'; use one of none, bilinear"):
        resize_frames(frames_of(8, 8), (4, 4), "lanczos")
    with pytest.raises(UserError, match="takes 4x4 pixels, but the clips have 8x8"):
        resize_frames(frames_of(8, 8), (4, 4), "none")


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    """Linear outputs leave [-1, 1] a little."""
    return torch.rand(2, 3, 16, 64, 64, generator=torch.Generator().manual_seed(7)) * 2.4 - 1.2


@pytest.fixture(scope="module")
def mean() -> torch.Tensor:
    return torch.rand(MEAN_SHAPE, generator=torch.Generator().manual_seed(8)) * 255


def frames_in(clip: Array) -> Array:
    """[3, T, H, W] to [T, 3, H, W]."""
    return clip.transpose(1, 0, 2, 3)


def test_tgan_resizes_subtracts_the_mean_and_then_crops(
    clips: torch.Tensor, mean: torch.Tensor
) -> None:
    found = prep.C3D_TGAN.apply(clips, mean)
    assert found.shape == (2, 3, 16, 112, 112)
    for number, clip in enumerate(clips.numpy()):
        # Neither clamped nor rounded, 128 x + 128, to 128 pixels, blue first.
        large = written_out(frames_in(128.0 * clip + 128.0), (128, 128), "bicubic")[:, ::-1]
        for t, row, column, channel in ((0, 0, 0, 0), (15, 111, 111, 2), (7, 20, 90, 1)):
            expected = large[t, channel, 8 + row, 8 + column]
            expected -= mean[channel, t, 8 + row, 21 + 8 + column].item()
            assert abs(found[number, channel, t, row, column].item() - expected) < 2e-3
        stored = mean.numpy()[:, :, 8:120, 29:141]
        difference = large[:, :, 8:120, 8:120] - frames_in(stored)
        assert numpy.abs(frames_in(found[number].numpy()) - difference).max() < 2e-3


def test_tgan2_resizes_to_112_and_takes_columns_8_to_119_of_the_mean(
    clips: torch.Tensor, mean: torch.Tensor
) -> None:
    found = prep.C3D_TGAN2.apply(clips, mean)
    for number, clip in enumerate(clips.numpy()):
        small = written_out(frames_in(128 * clip.clip(-1, 1)), (112, 112), "bilinear-corners")
        expected = small[:, ::-1] + 128 - frames_in(mean.numpy()[:, :, 8:120, 8:120])
        assert numpy.abs(frames_in(found[number].numpy()) - expected).max() < 2e-3


@pytest.mark.parametrize(
    ("chain", "kernel"), [(prep.I3D_TF, "bilinear-tf1"), (prep.I3D_STRETCH, "bilinear")]
)
def test_fvd_stretches_to_224_in_minus_one_to_one(chain: Preprocessing, kernel: str) -> None:
    clip = torch.randint(256, (1, 3, 2, 40, 60), dtype=torch.uint8)
    found = chain.apply(clip)
    expected = written_out(
        2 * frames_in(clip[0].numpy().astype(float)) / 255 - 1, (224, 224), kernel
    )
    assert numpy.abs(frames_in(found[0].numpy()) - expected).max() < 3e-5


@pytest.mark.parametrize(
    ("height", "width", "large"), [(60, 80, (224, 299)), (80, 60, (299, 224)), (64, 64, (224, 224))]
)
def test_videogpt_takes_the_centre_of_the_shorter_side_at_224(
    height: int, width: int, large: tuple[int, int]
) -> None:
    clip = torch.randint(256, (1, 3, 2, height, width), dtype=torch.uint8)
    found = prep.I3D_CROP.apply(clip)
    values = 2 * frames_in(clip[0].numpy().astype(float)) / 255 - 1
    resized = written_out(values, large, "bilinear")
    top, left = (large[0] - 224) // 2, (large[1] - 224) // 2
    expected = resized[:, :, top : top + 224, left : left + 224]
    assert numpy.abs(frames_in(found[0].numpy()) - expected).max() < 3e-5


def test_the_shorter_side_rule_rounds_the_longer_side_up() -> None:
    for height, width in ((36, 48), (100, 37), (49, 49), (171, 128)):
        resized = prep.I3D_CROP.resized(height, width)
        scale = 224 / min(height, width)
        longer = math.ceil(max(height, width) * scale)
        assert resized == ((224, longer) if height < width else (longer, 224))


@pytest.mark.parametrize(
    ("chain", "kernel"),
    [(prep.INCEPTION_TF, "bilinear-tf1"), (prep.INCEPTION_CLEAN, "bicubic-antialias")],
)
def test_fid_maps_pixels_to_minus_128_over_128(chain: Preprocessing, kernel: str) -> None:
    clip = torch.randint(256, (1, 3, 1, 33, 50), dtype=torch.uint8)
    large = written_out(frames_in(clip[0].numpy().astype(float)), (299, 299), kernel)
    if kernel == "bicubic-antialias":
        assert large.max() > 256
        large = large.clip(0, 255)
    found = chain.apply(clip)
    assert numpy.abs(frames_in(found[0].numpy()) - (large - 128) / 128).max() < 2e-5


def test_bytes_and_floats_of_the_same_pixels_agree(mean: torch.Tensor) -> None:
    clip = torch.randint(256, (1, 3, 16, 64, 64), dtype=torch.uint8)
    floats = clip.double() / 127.5 - 1
    for chain in (prep.C3D_TGAN, prep.I3D_TF, prep.INCEPTION_CLEAN):
        gap = (chain.apply(clip, mean) - chain.apply(floats, mean)).abs().max()
        assert float(gap) < 1e-4


def test_a_missing_or_unfitting_mean_is_refused(mean: torch.Tensor) -> None:
    clip = torch.zeros(1, 3, 16, 64, 64)
    with pytest.raises(UserError, match=r"vidgan weights convert mean2\.npz"):
        prep.C3D_TGAN.apply(clip)
    with pytest.raises(UserError, match="fits clips of 16 frames, not of 12"):
        prep.C3D_TGAN.apply(clip[:, :, :12], mean)


def test_the_rest_of_a_centre_crop_lies_behind() -> None:
    x = torch.arange(25.0).reshape(5, 5)
    assert centre_crop(x, (2, 4)).tolist() == [[5, 6, 7, 8], [10, 11, 12, 13]]
