"""Whether a set can be evaluated, told before it is trained on."""

import pytest

from vidgan.data.packed.manifest import ClipItem
from vidgan.data.scorable import MAX_WINDOWS, count_windows, why_unscorable


def items(num_train: int, num_heldout: int, stored: int = 16) -> list[ClipItem]:
    splits = ["train"] * num_train + ["heldout"] * num_heldout
    return [ClipItem(-1, split, str(n), stored) for n, split in enumerate(splits)]


def test_windows_count_where_videos_are_few_and_long() -> None:
    assert count_windows(items(3, 0, 16), 16, fewest=3) == [1, 1, 1]
    assert count_windows(items(3, 0, 16), 16, fewest=4) == [1, 1, 1]
    # 16 of 39 frames, 8 apart: from 0, 8 and 16.
    assert count_windows(items(2, 0, 39), 16, fewest=4) == [3, 3]
    assert count_windows(items(1, 0, 100_000), 16, fewest=4) == [MAX_WINDOWS]
    assert count_windows(items(1, 0, 3), 1, fewest=4) == [3]


@pytest.mark.parametrize(
    ("num_train", "num_heldout", "stored", "sentence"),
    [
        (65, 7, 16, "there are 7 of 7 and 65 of 65; set data.heldout_fraction=0.12,"),
        (15, 8, 16, "there are 8 of 8 and 15 of 15; set data.clip=random"),
        (1, 1, 10_000, "training clips of several videos"),
        (39, 0, 16, "there are 7 of 7 and 32 of 32; set data.heldout_fraction=0.21,"),
        (65, 7, 39, None),
        (65, 8, 16, None),
        (40, 0, 16, None),
        (2, 1, 90, None),
    ],
)
def test_what_is_missing_is_told_with_the_setting(
    num_train: int, num_heldout: int, stored: int, sentence: str | None
) -> None:
    reason = why_unscorable(items(num_train, num_heldout, stored), 16)
    assert sentence is None if reason is None else sentence is not None and sentence in reason
