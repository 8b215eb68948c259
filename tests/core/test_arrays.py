"""Arrays, lists and numbers in place of tensors."""

import numpy as np
import pytest
import torch

from vidgan.core.clip_ops import as_labels, as_seeds, as_tensor
from vidgan.errors import UserError


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3, 4]],
        ((1.0, 2.0), (3.0, 4.0)),
        np.array([[1, 2], [3, 4]], dtype=np.uint16),
        np.array([[1, 2], [3, 4]], dtype=">f4"),
        np.array([[3, 4], [1, 2]])[::-1],
        [torch.tensor(row).numpy() for row in ([1, 2], [3, 4])],
    ],
)
def test_what_holds_numbers_becomes_a_tensor(values: object) -> None:
    assert as_tensor(values, "values").tolist() == [[1, 2], [3, 4]]  # type: ignore[arg-type]


def test_a_tensor_stays_itself_and_bytes_stay_bytes() -> None:
    tensor = torch.zeros(2)
    assert as_tensor(tensor, "values") is tensor
    assert as_tensor(np.zeros(2, dtype=np.uint8), "values").dtype == torch.uint8


@pytest.mark.parametrize("values", ["abc", [[1], [1, 2]], [None], {"a": 1}, [1 + 2j]])
def test_what_holds_no_numbers_is_refused_by_name(values: object) -> None:
    with pytest.raises(UserError, match="latents must be"):
        as_tensor(values, "latents")  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [1, np.int32(1), [1, 1, 1], np.ones(3, dtype=np.uint8)])
def test_labels_are_one_for_all_or_one_each(labels: object) -> None:
    found = as_labels(labels, 3)  # type: ignore[arg-type]
    assert found.dtype == torch.int64
    assert found.tolist() == [1, 1, 1]


@pytest.mark.parametrize("labels", [1.0, [0.5, 1], np.array([True, False]), torch.rand(2)])
def test_labels_that_are_no_whole_numbers_are_refused(labels: object) -> None:
    with pytest.raises(UserError, match="whole numbers, one for every clip"):
        as_labels(labels, 2)  # type: ignore[arg-type]


def test_seeds_are_a_list() -> None:
    assert as_seeds(np.array([3, 1])) == (3, 1)
    assert as_seeds(torch.tensor([3, 1])) == (3, 1)
    assert [type(seed) for seed in as_seeds(np.array([3]))] == [int]
    with pytest.raises(UserError, match=r"\[3\] for the clip of this seed, range\(3\) for so many"):
        as_seeds(3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="whole numbers"):
        as_seeds([0.5])  # type: ignore[list-item]
