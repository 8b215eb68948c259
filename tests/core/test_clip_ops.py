"""Value ranges, resampling by whole factors, folding of time."""

import pytest
import torch
import torch.nn.functional as F

from vidgan.core.clip_ops import (
    Factor,
    fold_time,
    pool_clip,
    to_float,
    to_grey,
    to_uint8,
    unfold_time,
    upsample_clip,
    upsample_clip_linear,
)


def ramp(*shape: int) -> torch.Tensor:
    count = int(torch.tensor(shape).prod())
    return torch.arange(count, dtype=torch.float32).reshape(shape)


def test_every_byte_survives_the_round_trip() -> None:
    clip = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 1, 16, 16)
    values = to_float(clip)
    assert values.dtype == torch.float32
    assert (float(values.min()), float(values.max())) == (-1.0, 1.0)
    assert torch.equal(to_uint8(values), clip)


def test_conversion_to_bytes_rounds_and_clamps() -> None:
    # 127.5 x + 127.5 = 127.5 (to even: 128), 0, 255, 191.25, and two values outside.
    values = torch.tensor([0.0, -1.0, 1.0, 0.5, -7.0, 3.0])
    assert to_uint8(values).tolist() == [128, 0, 255, 191, 0, 255]
    assert to_uint8(values.bfloat16()).tolist() == [128, 0, 255, 191, 0, 255]


def test_only_bytes_become_floats() -> None:
    with pytest.raises(ValueError, match="expects a uint8 clip"):
        to_float(torch.zeros(1))


def test_grey_is_the_published_weighted_sum() -> None:
    # 0.21 R + 0.72 G + 0.07 B (Kratzwald et al. 2017); one clip of one pixel for each colour.
    clip = torch.eye(3)[:, :, None, None, None]
    grey = to_grey(clip)
    assert grey.shape == (3, 1, 1, 1, 1)
    assert grey.flatten().tolist() == pytest.approx([0.21, 0.72, 0.07])


def test_upsampling_repeats_voxels_along_every_axis() -> None:
    clip = ramp(1, 1, 2, 1, 2)
    large = upsample_clip(clip, (2, 2, 1))
    assert large.shape == (1, 1, 4, 2, 2)
    assert large[0, 0, :, :, 0].tolist() == [[0, 0], [0, 0], [2, 2], [2, 2]]
    nested = clip.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(large, nested)
    assert upsample_clip(clip, (1, 1, 1)) is clip


def test_upsampling_equals_the_library_on_real_shapes() -> None:
    clip = torch.randn(2, 3, 3, 4, 5)
    assert torch.equal(upsample_clip(clip, (2, 2, 2)), F.interpolate(clip, scale_factor=2))


def test_linear_upsampling_equals_the_library() -> None:
    clip = torch.randn(2, 3, 1, 4, 5, dtype=torch.float64)
    expected = F.interpolate(clip, scale_factor=(1, 2, 2), mode="trilinear")
    torch.testing.assert_close(upsample_clip_linear(clip, (1, 2, 2)), expected)
    clip = torch.randn(2, 3, 3, 4, 5, dtype=torch.float64)
    expected = F.interpolate(clip, scale_factor=2, mode="trilinear")
    torch.testing.assert_close(upsample_clip_linear(clip, (2, 2, 2)), expected)
    with pytest.raises(ValueError, match="by 1 or 2 along an axis, not 4"):
        upsample_clip_linear(clip, (1, 4, 4))


def test_pooling_averages_blocks_and_undoes_upsampling() -> None:
    clip = ramp(1, 1, 2, 2, 2)
    assert pool_clip(clip, (2, 2, 2)).item() == 3.5
    assert pool_clip(clip, (1, 2, 2)).flatten().tolist() == [1.5, 5.5]
    assert pool_clip(clip, (1, 1, 1)) is clip
    assert torch.equal(pool_clip(upsample_clip(clip, (2, 1, 2)), (2, 1, 2)), clip)


def test_folded_frames_are_clip_major() -> None:
    clip = ramp(2, 3, 4, 5, 6)
    frames = fold_time(clip)
    assert frames.shape == (8, 3, 5, 6)
    for b in range(2):
        for t in range(4):
            assert torch.equal(frames[b * 4 + t], clip[b, :, t])
    assert torch.equal(unfold_time(frames, 2), clip)


@pytest.mark.parametrize("factor", [(2, 2, 2), (1, 2, 2)])
def test_pooling_and_repeating_have_exact_derivatives(factor: Factor) -> None:
    # Odd sizes: what is beyond the last whole block counts for nothing.
    clip = torch.randn(1, 2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    small = torch.randn(1, 2, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    for function, x in ((pool_clip, clip), (upsample_clip, small)):
        curved = lambda x, function=function: function(x, factor).square()  # noqa: E731
        assert torch.autograd.gradcheck(curved, x)
        assert torch.autograd.gradgradcheck(curved, x)


def test_pooling_in_bfloat16_has_a_derivative() -> None:
    clip = torch.randn(1, 1, 2, 4, 4).bfloat16().requires_grad_()
    (slope,) = torch.autograd.grad(pool_clip(clip, (2, 2, 2)).sum(), clip, create_graph=True)
    assert slope.dtype == torch.bfloat16
    assert torch.equal(slope, torch.full_like(slope, 1 / 8))
    repeated = upsample_clip(clip, (1, 2, 2)).sum()
    assert torch.equal(torch.autograd.grad(repeated, clip)[0], torch.full_like(clip, 4.0))
