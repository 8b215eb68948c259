"""Random numbers are functions of their key and of the place in the global batch."""

import subprocess
import sys

import pytest
import torch

from vidgan.core.randomness import BatchRandom, derive_seed, keyed_rng

CPU = torch.device("cpu")


def rows(start: int, stop: int, *key: int | str) -> BatchRandom:
    return BatchRandom(key, 8, start, stop, CPU)


def test_seeds_are_in_range_and_differ_between_keys() -> None:
    keys = [(i, "latent", j) for i in range(60) for j in range(60)]
    seeds = [derive_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Both halves of the range are used alike.
    assert 0.4 < sum(seed >= 2**62 for seed in seeds) / len(seeds) < 0.6


def test_keys_are_not_confused_with_their_neighbours() -> None:
    keys = [(1, 23), (12, 3), (123,), ("123",), (1, "23"), ("1", "23"), ("1, 23",), ()]
    assert len({derive_seed(*key) for key in keys}) == len(keys)


def test_seed_is_the_same_in_every_process() -> None:
    # Python's own hash of words changes from process to process.
    code = "from vidgan.core.randomness import derive_seed; print(derive_seed(3, 'latent', 7))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == derive_seed(3, "latent", 7)


def test_same_key_draws_the_same_numbers() -> None:
    one, other = keyed_rng(1, "a"), keyed_rng(1, "a")
    assert torch.equal(torch.rand(5, generator=one), torch.rand(5, generator=other))
    assert not torch.equal(
        torch.rand(5, generator=keyed_rng(1, "a")), torch.rand(5, generator=keyed_rng(1, "b"))
    )


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_shares_join_to_the_global_batch(kind: str) -> None:
    whole = getattr(rows(0, 8, 5), kind)(2, 3)
    assert whole.shape == (8, 2, 3)
    assert whole.dtype == torch.float32
    for size in (1, 2, 4):
        shares = [getattr(rows(i, i + size, 5), kind)(2, 3) for i in range(0, 8, size)]
        assert torch.equal(torch.cat(shares), whole)


def test_second_draw_is_new_and_shares_stay_in_step() -> None:
    whole, share = rows(0, 8, 5), rows(4, 6, 5)
    first = whole.normal(3)
    share.normal(3)
    second = whole.normal(3)
    assert not torch.equal(first, second)
    assert torch.equal(share.normal(3), second[4:6])


def test_distributions_are_what_they_are_called() -> None:
    rng = BatchRandom((0,), 1, 0, 1, CPU)
    uniform, normal = rng.uniform(20_000), rng.normal(20_000)
    assert float(uniform.min()) >= 0
    assert float(uniform.max()) < 1
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(normal.mean()) == pytest.approx(0, abs=0.03)
    assert float(normal.std()) == pytest.approx(1, abs=0.02)
