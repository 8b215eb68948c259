"""The processor that computes: its model, and the instruction sets that decide how it rounds."""

import ctypes
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

X86_SETS = """
    sse4_2 avx f16c fma avx2 avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16
    amx_tile amx_int8 amx_bf16 amx_fp16
"""
ARM_SETS = "asimd asimdhp asimddp bf16 i8mm sve sve2 svebf16 sme"
INSTRUCTION_SETS = tuple(f"{X86_SETS} {ARM_SETS}".split())
"""Instruction sets that select arithmetic kernels; other features do not change results."""

LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
)
"""Environment variables that keep torch, oneDNN and MKL from using available instruction sets."""


def describe_processor() -> dict[str, Any]:
    """The processor and its instruction sets, as plain values.

    Returns:
        `model`; `architecture` such as `x86_64`; `vectors`, the widest instructions that torch's
        own kernels use (`AVX512`, `AVX2`, `DEFAULT`, ...); `instruction_sets` that are present, in
        the order of `INSTRUCTION_SETS`; whether it has `amx` and `bf16` arithmetic; and `limits`,
        the environment variables of `LIMITS` that are set, as `NAME=value`.
    """
    model, sets = _read_cpuinfo() or _ask_torch()
    return {
        "model": model,
        "architecture": platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "instruction_sets": sets,
        "amx": "amx_tile" in sets,
        "bf16": not {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}.isdisjoint(sets),
        "limits": [f"{name}={os.environ[name]}" for name in LIMITS if os.environ.get(name)],
    }


def processor_id() -> str:
    """One line that is the same where and only where the processor's arithmetic is.

    Example: `AMD EPYC (x86_64, AVX2 vectors; sse4_2 avx f16c fma avx2)`.
    """
    return processor_line(describe_processor())


def processor_line(found: Mapping[str, Any]) -> str:
    """What `describe_processor` found, here or elsewhere, as one line."""
    sets = " ".join(map(str, found["instruction_sets"])) or "instruction sets unknown"
    limits = "".join(f"; {limit}" for limit in found["limits"])
    return f"{found['model']} ({found['architecture']}, {found['vectors']} vectors; {sets}{limits})"


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes bfloat16 convolutions itself.

    Torch emulates them on processors below AVX-512, 59 times slower than float32 (a 3x3x3
    convolution of 32 channels, AMD EPYC with AVX2, torch 2.13).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def known_faults() -> list[str]:
    """Known bugs of this machine's torch, cuDNN and processor, one sentence each."""
    faults = []
    backend: Any = torch.backends.cudnn
    cudnn = (backend.version() or 0) if torch.cuda.is_available() else 0
    # PyTorch issue 163539 (wrong), 163581 and 166643 (2.9 leaves cuDNN out, and is slow).
    if 90800 <= cudnn < 91500:
        torch_version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
        effect = (
            "computes 3-D convolutions of large clips wrongly in bfloat16"
            if torch_version < (2, 9)
            else "is left out of bfloat16 3-D convolutions by torch, which takes much memory"
        )
        faults.append(f"cuDNN {cudnn} {effect}: install torch 2.10 or cuDNN 9.15, or later ones")
    found = describe_processor()
    if found["amx"] and not any("ONEDNN_MAX_CPU_ISA" in limit for limit in found["limits"]):
        faults.append(
            "on processors with AMX the double backward of PyTorch's own bfloat16 convolutions is "
            "noise: vidgan has its own, other programs need ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16"
        )
    return faults


def machine_name(device: str) -> str:
    """What computes: the name of the GPU, else of the processor."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return str(describe_processor()["model"])


def _read_cpuinfo(path: Path = Path("/proc/cpuinfo")) -> tuple[str, list[str]] | None:
    """Model and instruction sets as Linux reports them; None on other systems."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    model = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(\S.*)$", text, re.MULTILINE)
    part = re.search(r"^CPU part\s*:\s*(\S+)$", text, re.MULTILINE)  # ARM often has no more
    features = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    name = model[1] if model else f"part {part[1]}" if part else _plain_name()
    return name, _known(features[1].split() if features else ())


def _ask_torch() -> tuple[str, list[str]]:
    """Model and instruction sets as torch reports them; older versions report none."""
    ask = getattr(torch.cpu, "get_capabilities", dict)
    told: dict[str, Any] = dict(ask())
    # torch separates what Linux does not: avx512_f, avx512_bw, avx512_vl.
    present = {name for name, value in told.items() if value is True}
    present |= {re.sub(r"^avx512_(f|bw|vl)$", r"avx512\1", name) for name in present}
    present |= {"fma"} if "fma3" in present else set()
    return str(told.get("cpu_name") or _plain_name()), _known(present)


def _plain_name() -> str:
    return platform.processor() or platform.machine()


def _known(features: Iterable[str]) -> list[str]:
    there = set(features)
    return [name for name in INSTRUCTION_SETS if name in there]


def device_memory(device: torch.device) -> int:
    """Bytes that tensors on a device can take in all; 0 where nothing tells.

    On the CPU that is memory with swap, or what the control group of a container allows.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    found = re.findall(
        r"^(?:MemTotal|SwapTotal):\s*(\d+) kB$", _text("/proc/meminfo"), re.MULTILINE
    )
    limit = _text("/sys/fs/cgroup/memory.max").strip()
    sizes = [1024 * sum(map(int, found))] if found else []
    return min([*sizes, *([int(limit)] if limit.isdecimal() else [])], default=0)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def keep_freed_memory(keep: bool = True) -> bool:
    """Let the C library keep freed memory from here on; returns whether it can.

    glibc returns what lies free at the end of its heap, so every step asks the kernel for hundreds
    of thousands of pages that it had a moment ago. Blocks above 32 MiB have pages of their own
    there, which would be returned one and all; without them a step at 32x256x256 takes a sixth
    less time and some more memory. Other libraries have no such switch.

    Args:
        keep: False goes back to glibc's own limits.
    """
    limit, trim, pad, blocks = (2**25, -1, 2**26, 0) if keep else (2**17, 2**17, 2**17, 2**16)
    try:
        library = ctypes.CDLL(None)
        if not hasattr(library, "gnu_get_libc_version"):
            return False
        settings = {
            _M_MMAP_THRESHOLD: limit,
            _M_TRIM_THRESHOLD: trim,
            _M_TOP_PAD: pad,
            _M_MMAP_MAX: blocks,
        }
        return all(library.mallopt(name, value) == 1 for name, value in settings.items())
    except (OSError, TypeError, AttributeError):
        return False


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
"""Parameters of mallopt(3)."""


@contextmanager
def returning_memory(keeps: bool) -> Iterator[None]:
    """A block whose freed memory goes back to the kernel, in a process that `keeps` it otherwise.

    For work that is done once and unlike what follows: its blocks would lie between those of the
    steps, too small or too scattered for them.
    """
    if keeps:
        keep_freed_memory(False)
    try:
        yield
    finally:
        if keeps:
            keep_freed_memory()
