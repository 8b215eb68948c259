"""TorchScript archives read as data, and programs that would rather be executed."""

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from weight_files import save_script

from vidgan.extractors.weights.reading import (
    Called,
    Global,
    UnreadableArchiveError,
    described_data,
    is_torchscript,
    read_torchscript,
)


@pytest.fixture
def entries() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {
        "first.conv.weight": torch.randn(4, 3, 2, 2, generator=rng),
        "first.conv.running_mean": torch.randn(4, generator=rng),
        "first.num_batches_tracked": torch.tensor(12),
        "second.weight": torch.randn(6, 5, generator=rng).double(),
        "second.small": torch.randn(3, generator=rng).half(),
        "bias": torch.randn(3, generator=rng),
    }


def test_every_tensor_of_an_archive_comes_back(
    tmp_path: Path, entries: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "net.pt"
    save_script(path, entries)
    assert is_torchscript(path)
    found = read_torchscript(path)
    assert set(found) == set(entries)
    for name, value in entries.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == value.dtype


def test_views_of_one_storage_keep_their_strides(tmp_path: Path) -> None:
    module = torch.nn.Module()
    values = torch.arange(24.0)
    module.register_buffer("turned", values.reshape(4, 6).t())
    module.register_buffer("part", values[5:9])
    module.forward = lambda x: x  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(module, torch.zeros(1), check_trace=False)
        torch.jit.save(scripted, str(tmp_path / "net.pt"))
    found = read_torchscript(tmp_path / "net.pt")
    assert torch.equal(found["turned"], values.reshape(4, 6).t())
    assert torch.equal(found["part"], values[5:9])


def test_state_dicts_are_no_archives_of_torchscript(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    (tmp_path / "text").write_text("none")
    assert not is_torchscript(tmp_path / "a.pt")
    assert not is_torchscript(tmp_path / "text")


class Evil:
    """Executes a command wherever its pickle is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def archive(path: Path, program: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", program)
        file.writestr("net/constants.pkl", pickle.dumps(()))
    return path


def test_calls_are_written_down_and_not_made(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    program = pickle.dumps({"weight": Evil(marker)}, protocol=2)
    described = described_data(program)["weight"]
    assert isinstance(described, Called)
    assert described.what == Global(os.system.__module__, "system")
    assert described.arguments == (f"touch {marker}",)
    with pytest.raises(UnreadableArchiveError, match="no module with tensors"):
        read_torchscript(archive(tmp_path / "evil.pt", program))
    assert not marker.exists()
    # The same program does execute where it is loaded, so the test would notice.
    pickle.loads(program)
    assert marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02}(.",
        b"\x80\x02(cbuiltins\nlist\nNo.",
        b"\x80\x02]]b.",
        b"\x80\x02h\x05.",
        b"\x80\x02}]K\x01s.",
        b"\x80\x02\x8c\x01a\x8c\x01b\x93(R.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
        b"\x80\x02\x82\x01.",
        b"nonsense",
    ],
)
def test_programs_that_are_no_descriptions_are_refused(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(UnreadableArchiveError, match=r"odd\.pt is not a TorchScript archive"):
        read_torchscript(archive(tmp_path / "odd.pt", program))


def rewritten(path: Path, change: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            end = name.partition("/")[2]
            new.writestr(name, change.get(end, content))


def test_archives_that_lie_about_their_values_are_refused(
    tmp_path: Path, entries: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "net.pt"
    save_script(path, entries)
    rewritten(path, {"data/0": b"\0" * 8})
    with pytest.raises(UnreadableArchiveError, match="data/0 holds 8 bytes"):
        read_torchscript(path)
    save_script(path, entries)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableArchiveError, match=r"net\.pt is not a TorchScript archive"):
        read_torchscript(path)


def rebuilt(size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> bytes:
    """A module with one tensor whose place in its storage is given."""

    class Tensorlike:
        def __reduce__(self) -> Any:
            from torch._utils import _rebuild_tensor_v2

            return _rebuild_tensor_v2, (Storage(), offset, size, stride, False, {})

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", 4)
            return None

    out = io.BytesIO()
    Pickler(out, protocol=2).dump(Tensorlike())
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((8,), (1,), 0), ((2,), (4,), 0), ((2,), (1,), 3), ((2,), (1,), -1)],
)
def test_tensors_that_leave_their_storage_are_refused(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", rebuilt(size, stride, offset))
        file.writestr("net/constants.pkl", pickle.dumps(()))
        file.writestr("net/data/0", bytes(16))
    with pytest.raises(UnreadableArchiveError):
        read_torchscript(path)


def test_a_module_that_holds_itself_is_refused(tmp_path: Path) -> None:
    program = b"\x80\x02c__torch__\nNet\nq\x00)\x81q\x01}X\x01\x00\x00\x00ah\x01sb."
    with pytest.raises(UnreadableArchiveError, match="holds itself"):
        read_torchscript(archive(tmp_path / "loop.pt", program))
