"""How fast devices compute that are not at hand: a table, and the time of a call by it.

A call takes at least a launch, at least its bytes by the rate of memory, and at least its
operations by the rate of products, which a kernel with few channels does not reach. A convolution
also goes over its bytes once more, slowly: libraries lay out what they read anew.
"""

from dataclasses import dataclass

from vidgan.training.step_cost import Kernel, StepCost

GIB = 2**30
TILE = 64
"""Channels at which a product fills the tiles of a card."""


@dataclass(frozen=True)
class DeviceRates:
    """What a card can do.

    Attributes:
        title: its name.
        memory: bytes.
        launch_s: seconds that a call takes at least, as part of a CUDA graph.
        bytes_per_s: of passes over tensors.
        layout_bytes_per_s: of the passes that a convolution adds.
        half_per_s: operations a second of bfloat16 products with enough channels.
        single_per_s: the same in float32, by TF32 where the card has it.
        narrowness: power with which the rate falls below `TILE` channels.
        source: where the numbers come from.
    """

    title: str
    memory: int
    launch_s: float
    bytes_per_s: float
    layout_bytes_per_s: float
    half_per_s: float
    single_per_s: float
    narrowness: float
    source: str


_H200 = DeviceRates(
    title="NVIDIA H200",
    memory=int(139.8 * GIB),
    launch_s=2.83e-6,
    bytes_per_s=3.20e12,
    layout_bytes_per_s=0.587e12,
    half_per_s=655e12,
    single_per_s=340e12,
    narrowness=1.47,
    source=(
        "products as measured on the card; launch, passes and the fall with channels fitted to ten"
        " measured steps taken as CUDA graphs (docs/results/gpu-h200)"
    ),
)


def _by_data_sheet(
    title: str, memory_gb: float, tb_per_s: float, half_tflops: float, single_tflops: float
) -> DeviceRates:
    """A card that reaches the share of its data sheet that an H200 reaches (4.8 TB/s, 989 TFLOP/s
    in bfloat16, 495 in TF32)."""
    passes = tb_per_s / 4.8
    return DeviceRates(
        title=title,
        memory=int(memory_gb * GIB),
        launch_s=_H200.launch_s,
        bytes_per_s=_H200.bytes_per_s * passes,
        layout_bytes_per_s=_H200.layout_bytes_per_s * passes,
        half_per_s=_H200.half_per_s * half_tflops / 989,
        single_per_s=_H200.single_per_s * single_tflops / 495,
        narrowness=_H200.narrowness,
        source=(
            f"assumed to reach the share of its data sheet ({tb_per_s:g} TB/s, {half_tflops:g}"
            f" TFLOP/s bfloat16, {single_tflops:g} TF32, dense) that an H200 reaches; not measured"
        ),
    )


DEVICES = {
    "h200": _H200,
    "h100": _by_data_sheet("NVIDIA H100 SXM", 79.1, 3.35, 989, 495),
    "a100": _by_data_sheet("NVIDIA A100 SXM 80 GB", 79.2, 2.04, 312, 156),
    "rtx4090": _by_data_sheet("NVIDIA RTX 4090", 23.5, 1.008, 165, 82.6),
}
"""Cards by the name that `vidgan plan --device` takes; data sheets of their maker."""


def kernel_seconds(kernel: Kernel, rates: DeviceRates) -> float:
    """Time of one call."""
    seconds = max(rates.launch_s, kernel.bytes / rates.bytes_per_s)
    if not kernel.flop:
        return seconds
    share: float = min(1.0, kernel.channels / TILE) ** rates.narrowness
    peak = rates.half_per_s if kernel.is_half else rates.single_per_s
    seconds = max(seconds, kernel.flop / (peak * share))
    layout = kernel.bytes / rates.layout_bytes_per_s if kernel.is_convolution else 0.0
    return seconds + layout


def step_seconds(cost: StepCost, rates: DeviceRates) -> float:
    """Time of a mean step, one call after the other."""
    return sum(kernel_seconds(kernel, rates) * count for kernel, count in cost.mean_kernels())
