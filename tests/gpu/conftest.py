"""Where these tests compute: on the CPU in the normal suite, on a card under `pytest -m gpu`.

A test asks for `device`. The form on a CPU is there where it means something by itself, because
the reference is a float64 computation or another way to the same numbers.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# cuBLAS reads this when it starts: without a workspace of its own its sums may vary between calls.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

for folder in ("models", "training"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The processor or the card."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """Float32 that is float32: no TensorFloat-32 in products or convolutions."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=False, allow_tf32=False
    ):
        yield
    torch.set_float32_matmul_precision(precision)


@pytest.fixture(scope="session")
def packed_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `training_cases.pack_clips`."""
    from training_cases import pack_clips

    return pack_clips(tmp_path_factory.mktemp("clips"))
