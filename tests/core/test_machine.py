"""What is told of the processor: from files of other machines, and from this one."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vidgan.core import machine
from vidgan.core.machine import LIMITS, describe_processor, machine_name, processor_id

# As Linux shows them, shortened.
INTEL = """\
processor\t: 0
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse4_2 avx f16c fma avx2 avx512f avx512bw avx512vl avx512_bf16 amx_bf16 amx_tile
bugs\t\t: none

processor\t: 1
model name\t: the second
flags\t\t: fpu
"""
ARM = """\
processor\t: 0
Features\t: fp asimd aes asimdhp asimddp sve bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


def told_by(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (folder / "cpuinfo").write_text(text, encoding="utf-8")
    read = machine._read_cpuinfo
    monkeypatch.setattr(machine, "_read_cpuinfo", lambda: read(folder / "cpuinfo"))
    return describe_processor()


def test_an_intel_server_has_amx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told_by(INTEL, tmp_path, monkeypatch)
    assert found["model"] == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert found["instruction_sets"] == [
        *("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl"),
        *("avx512_bf16", "amx_tile", "amx_bf16"),
    ]
    assert found["amx"]
    assert found["bf16"]
    assert machine_name("cpu") == found["model"]


def test_an_arm_server_without_a_name_has_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = told_by(ARM, tmp_path, monkeypatch)
    assert found["model"] == "part 0xd40"
    assert found["instruction_sets"] == ["asimd", "asimdhp", "asimddp", "bf16", "sve"]
    assert (found["amx"], found["bf16"]) == (False, True)


def test_where_no_file_tells_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> dict[str, Any]:
        names = {"avx512_f": True, "avx512_bf16": True, "fma3": True, "amx_tile": False}
        return {**names, "cpu_name": "A name", "num_sockets": 1}

    monkeypatch.setattr(machine, "_read_cpuinfo", lambda: None)
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(get_capabilities=told))
    found = describe_processor()
    assert found["model"] == "A name"
    assert found["instruction_sets"] == ["fma", "avx512f", "avx512_bf16"]
    # Versions of torch that cannot tell leave the rest as it is.
    monkeypatch.setattr(torch, "cpu", SimpleNamespace())
    found = describe_processor()
    assert found["instruction_sets"] == []
    assert "instruction sets unknown" in processor_id()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux has this file")
@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="torch cannot tell")
def test_linux_and_torch_agree_on_this_machine() -> None:
    (_, linux), (_, asked) = machine._read_cpuinfo() or ("", []), machine._ask_torch()
    assert linux
    told = torch.cpu.get_capabilities()
    for name in ("avx2", "avx512_bf16", "amx_tile", "amx_bf16"):
        if name in told:
            assert (name in linux) == (name in asked) == told[name], name


def test_the_id_tells_what_torch_and_its_libraries_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    plain = processor_id()
    assert plain == processor_id()
    assert torch.backends.cpu.get_cpu_capability() in plain
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert describe_processor()["limits"] == ["ONEDNN_MAX_CPU_ISA=AVX2"]
    assert processor_id() == plain[:-1] + "; ONEDNN_MAX_CPU_ISA=AVX2)"

    code = (
        "from vidgan.core.machine import describe_processor; print(describe_processor()['vectors'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "DEFAULT"


@pytest.mark.parametrize(
    ("cudnn", "torch_version", "said"),
    [
        (90701, "2.8.0+cu128", ""),
        (91002, "2.8.0+cu128", "cuDNN 91002 computes 3-D convolutions of large clips wrongly"),
        (91002, "2.9.1+cu128", "cuDNN 91002 is left out of bfloat16 3-D convolutions by torch"),
        (91501, "2.10.0+cu128", ""),
    ],
)
def test_known_faults_of_cudnn(
    cudnn: int, torch_version: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told_by(ARM, tmp_path, monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    monkeypatch.setattr(torch, "__version__", torch_version)
    faults = machine.known_faults()
    assert len(faults) == bool(said)
    assert all(fault.startswith(said) for fault in faults)


def test_the_fault_of_amx_is_known_unless_amx_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    told_by(INTEL, tmp_path, monkeypatch)
    assert any("processors with AMX" in fault for fault in machine.known_faults())
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert not any("processors with AMX" in fault for fault in machine.known_faults())


CHURN = """
import ctypes, resource, sys
from vidgan.core.machine import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    place = library.malloc(2**24)
    ctypes.memset(place, 1, 2**24)
    library.free(place)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_is_kept_is_not_asked_for_again() -> None:
    # glibc itself raises its threshold after the first large block, so blocks stay below it here.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    faults = {}
    for word in ("give back", "keep"):
        command = [sys.executable, "-c", CHURN, word]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        faults[word] = int(done.stdout)
    assert faults["keep"] < 0.1 * faults["give back"], faults


HOLES = """
import sys, torch
from vidgan.core.machine import keep_freed_memory, returning_memory
assert keep_freed_memory()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

with returning_memory(sys.argv[1] == "return"):
    before = resident()
    blocks = [torch.ones(2**18) for _ in range(200)]  # 1 MiB each
    last = torch.ones(2**18)
    del blocks
print((resident() - before) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_of_passing_work_is_returned() -> None:
    mib = {}
    for word in ("keep", "return"):
        done = subprocess.run(
            [sys.executable, "-c", HOLES, word], check=True, capture_output=True, text=True
        )
        mib[word] = int(done.stdout)
    assert mib["keep"] > 150
    assert mib["return"] < 20
