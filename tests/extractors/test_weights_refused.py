"""Weight files that are wrong, damaged or malicious, and how each is refused."""

import os
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import weight_files as wf

from vidgan.errors import UserError
from vidgan.extractors.weights.checking import (
    ExtraEntryError,
    MissingEntryError,
    TransposedEntryError,
    WrongShapeError,
    WrongValuesError,
)
from vidgan.extractors.weights.converting import convert, examine
from vidgan.extractors.weights.reading import UnreadableFileError, UnsafePickleError
from vidgan.extractors.weights.store import load_weights


def c3d_entries() -> dict[str, numpy.ndarray]:
    return wf.chainer_entries(wf.c3d_weights())


def without(entries: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if key != name}


FAULTS: dict[str, tuple[Callable[[], dict[str, Any]], type[UserError], str]] = {
    "missing": (lambda: without(c3d_entries(), "conv4a/b"), MissingEntryError, "no entry conv4a/b"),
    "extra": (
        lambda: c3d_entries() | {"fc9/W": numpy.zeros((2, 3), "f4")},
        ExtraEntryError,
        r"holds fc9/W \(2x3\), which this network has no place",
    ),
    "transposed": (
        lambda: c3d_entries() | {"fc6/W": c3d_entries()["fc6/W"].T},
        TransposedEntryError,
        "holds fc6/W as 256x128, which is 128x256 transposed",
    ),
    "classes": (
        lambda: wf.chainer_entries(wf.c3d_weights(487)),
        WrongShapeError,
        "fc8/W as 487x128 .* trained for 487 classes, not 101",
    ),
    "infinite": (
        lambda: c3d_entries() | {"fc7/b": numpy.full(128, numpy.inf, "f4")},
        WrongValuesError,
        "holds fc7/b with values that are not finite",
    ),
    "another": (
        lambda: {"layer1/W": numpy.zeros(3)},
        MissingEntryError,
        r"entries of net\.npz \(layer1/W, \.\.\.\) are named like those of no weight file",
    ),
    "mean": (
        lambda: {"mean": numpy.zeros((3, 16, 112, 112), "f4")},
        WrongShapeError,
        "3x16x128x171 values and this file's entry 'mean' is 3x16x112x112",
    ),
    "objects": (
        lambda: {"mean": numpy.array([{}], dtype=object)},
        UnreadableFileError,
        "is none of the weight files .*something else than arrays of numbers",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_entries_raise_an_error_of_their_own(tmp_path: Path, fault: str) -> None:
    make, error, sentence = FAULTS[fault]
    path = wf.save_npz(tmp_path / "net.npz", make())
    with pytest.raises(error, match=sentence):
        convert(path, folder=tmp_path / "kept", width=wf.WIDTH)
    assert not (tmp_path / "kept").exists()


def test_negative_variances_and_lost_scales_are_noticed(tmp_path: Path) -> None:
    entries = wf.pytorch_i3d_entries(wf.i3d_weights())
    entries["Mixed_4c.b1b.bn.running_var"] -= 9
    path = wf.save_zip(tmp_path / "net.pt", entries)
    with pytest.raises(WrongValuesError, match=r"Mixed_4c\.b1b\.bn\.running_var with negative"):
        examine(path, wf.WIDTH)
    tables = wf.tensorflow_entries(wf.i3d_weights(), "RGB/inception_i3d/")
    del tables["RGB/inception_i3d/Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w"]
    wf.write_checkpoint(tmp_path / "model.ckpt", tables)
    with pytest.raises(MissingEntryError, match="no entry Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d"):
        examine(tmp_path / "model.ckpt", wf.WIDTH)


class Evil:
    """Executes a command wherever its pickle is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("save", [wf.save_zip, wf.save_legacy])
def test_a_pickle_that_would_execute_something_is_refused_unexecuted(
    tmp_path: Path, save: Callable[[Path, Any], Path]
) -> None:
    marker = tmp_path / "executed"
    path = save(tmp_path / "c3d.pickle", {"conv1.weight": Evil(marker)})
    with pytest.raises(UnsafePickleError, match=r"c3d\.pickle .* but calls (posix|nt)\.system"):
        convert(path, folder=tmp_path / "kept")
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_that_torch_did_not_write_are_refused_unexecuted(
    tmp_path: Path, protocol: int
) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps({"conv1.weight": Evil(marker)}, protocol))
    with pytest.raises(UserError, match=r"net\.pkl (is none of|was not opened)"):
        convert(path, folder=tmp_path / "kept")
    assert not marker.exists()


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    text = tmp_path / "net.pt"
    text.write_text("not weights")
    with pytest.raises(UnreadableFileError, match=r"net\.pt is none of the weight files"):
        examine(text)
    with pytest.raises(UnreadableFileError, match="holds no named tensors"):
        examine(wf.save_zip(tmp_path / "list.pt", [1, 2]))
    with pytest.raises(UserError, match="there is no file"):
        examine(tmp_path / "absent.pt")
    for read in (examine, load_weights):
        with pytest.raises(UserError, match=r"^/dev/null is neither a file nor a folder but"):
            read("/dev/null")
    with pytest.raises(UserError, match="holds 0 checkpoints of TensorFlow"):
        examine(tmp_path)
    wf.write_checkpoint(tmp_path / "ckpt" / "model", {"a": torch.zeros(2)})
    (tmp_path / "ckpt" / "model.index").unlink()
    with pytest.raises(UserError, match=r"there is no model\.index; fetch both files"):
        examine(tmp_path / "ckpt" / "model.data-00000-of-00001")


@pytest.mark.parametrize("kind", ["zip", "legacy", "npz", "script"])
def test_damaged_files_raise_nothing_but_sentences(tmp_path: Path, kind: str) -> None:
    entries = {f"layer{place}.weight": torch.randn(3, 2) for place in range(3)}
    path = tmp_path / ("net.npz" if kind == "npz" else "net.pt")
    if kind == "npz":
        wf.save_npz(path, {name: value.numpy() for name, value in entries.items()})
    elif kind == "script":
        wf.save_script(path, entries)
    else:
        (wf.save_zip if kind == "zip" else wf.save_legacy)(path, entries)
    whole = path.read_bytes()
    rng = random.Random(kind)
    for round_ in range(60):
        damaged = bytearray(whole)
        if round_ % 4:
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        else:
            del damaged[rng.randrange(len(whole)) :]
        path.write_bytes(damaged)
        # Whole or damaged, this is the file of no known network.
        with pytest.raises(UserError, match=r"net\.(pt|npz)") as caught:
            examine(path)
        # Classes of exceptions and the words of libraries help nobody.
        assert not re.search(r"Error\(|BadZipFile|internal|unsafely", str(caught.value))
