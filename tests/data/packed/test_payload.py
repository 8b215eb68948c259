"""Payloads: exact ones are exact, the others stay near the image; bytes depend on it alone."""

import pytest
import torch

from vidgan.core.clip_ops import pool_uint8
from vidgan.data.packed.payload import codec_for, decode_payload, encode_payload, pool_pixels


def moving_squares(frames: int, side: int) -> torch.Tensor:
    """uint8 `[3, T, H, W]`: a coloured square moves over a smooth background."""
    ramp = torch.linspace(40, 200, side)
    clip = torch.stack(
        [ramp.expand(side, side), ramp.expand(side, side).T, 240 - ramp.expand(side, side)]
    )
    clip = clip[:, None].repeat(1, frames, 1, 1)
    for n in range(frames):
        clip[:, n, side // 4 : side // 2, n : n + side // 4] = torch.tensor([200.0, 60, 90]).view(
            3, 1, 1
        )
    return clip.to(torch.uint8)


@pytest.mark.parametrize("codec", ["raw", "zstd"])
@pytest.mark.parametrize("shape", [(3, 5, 6, 7), (3, 1, 1, 1)])
def test_exact_payloads_come_back_bit_for_bit(codec, shape):
    rng = torch.Generator().manual_seed(1)
    clip = torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)
    assert torch.equal(decode_payload(encode_payload(clip.numpy(), codec), codec, shape), clip)


@pytest.mark.parametrize(("codec", "largest_error"), [("jpeg", 1.5), ("h264", 4.0)])
@pytest.mark.parametrize(("frames", "side"), [(16, 64), (1, 32), (3, 34)])
def test_lossy_payloads_stay_near_and_in_order(codec, largest_error, frames, side):
    clip = moving_squares(frames, side)
    data = encode_payload(clip.numpy(), codec)
    assert data == encode_payload(clip.numpy(), codec)
    seen = decode_payload(data, codec, tuple(clip.shape))
    assert (seen.shape, seen.dtype) == (clip.shape, torch.uint8)
    difference = seen.double() - clip.double()
    assert float(difference.abs().mean()) < largest_error
    # No colour is darker or brighter on the whole.
    assert float(difference.mean(dim=(1, 2, 3)).abs().max()) < 1.0
    for n in range(frames):
        errors = [
            float((seen[:, n].double() - clip[:, m].double()).abs().mean()) for m in range(frames)
        ]
        assert errors.index(min(errors)) == n


@pytest.mark.parametrize("factor", [(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 3, 3), (4, 16, 16)])
def test_both_poolings_give_the_same_pixels(factor):
    rng = torch.Generator().manual_seed(2)
    noise = torch.randint(0, 256, (3, 8, 48, 96), dtype=torch.uint8, generator=rng)
    # Few brightnesses: means of exactly a half are frequent.
    for clip in (noise, noise % 2 + 254):
        found = torch.from_numpy(pool_pixels(clip.numpy(), factor))
        assert torch.equal(found, pool_uint8(clip, factor))
        exact = clip.double().reshape(
            3, 8 // factor[0], factor[0], -1, factor[1], 96 // factor[2], factor[2]
        )
        assert torch.equal(found.double(), exact.mean((2, 4, 6)).round())


def test_h264_is_the_smallest():
    clip = moving_squares(16, 64)
    sizes = [len(encode_payload(clip.numpy(), codec)) for codec in ("h264", "jpeg", "raw")]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 30


def test_levels_choose_their_codec():
    assert [codec_for("auto", side) for side in (4, 64, 65, 256)] == [
        "zstd",
        "zstd",
        "jpeg",
        "jpeg",
    ]
    # Colour at half the size, in blocks of 16 pixels, is nothing for tiny or odd levels.
    assert [codec_for("h264", side) for side in (4, 16, 31, 32, 33, 256)] == [
        "zstd",
        "zstd",
        "zstd",
        "h264",
        "zstd",
        "h264",
    ]
    assert [codec_for("raw", side) for side in (4, 256)] == ["raw", "raw"]
