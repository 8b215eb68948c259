"""Convolution kernels that return noise, as some processors' and GPUs' do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vidgan.models.parts.convolution import stock_convolutions

aten = torch.ops.aten


class BrokenKernel(TorchDispatchMode):
    """While it is entered, the calls that `spoil` picks return noise of the right size."""

    def __init__(self, spoil: Callable[[Any, tuple[Any, ...]], bool]) -> None:
        super().__init__()
        self.spoil = spoil
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        if not self.spoil(func, args):
            return answer
        self.calls += 1
        if func is aten.convolution_backward.default:
            return answer[0], noise_like(answer[1]), answer[2]
        return noise_like(answer)


def noise_like(value: Tensor | None) -> Tensor | None:
    """Noise of the same norm; keyed, so that runs repeat."""
    if value is None:
        return None
    noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    return (noise * (value.float().norm() / noise.norm())).to(value.dtype)


def weight_gradient(dtype: torch.dtype) -> Callable[[Any, tuple[Any, ...]], bool]:
    """The weight gradient of a convolution in one number format."""
    return lambda func, args: func is aten.convolution_backward.default and args[0].dtype == dtype


def kernel_as_large_as_the_clip(func: Any, args: tuple[Any, ...]) -> bool:
    """What oneDNN's bfloat16 kernel for AMX gets wrong: a stock double backward asks for it."""
    if func is not aten.convolution.default or args[1].dtype != torch.bfloat16:
        return False
    is_transposed = args[6]
    return args[0].dim() == 5 and args[0].shape[2:] == args[1].shape[2:] and not is_transposed


@contextmanager
def amx_fault() -> Iterator[BrokenKernel]:
    """What a processor with AMX makes of the stock path."""
    with stock_convolutions(), BrokenKernel(kernel_as_large_as_the_clip) as kernel:
        yield kernel
