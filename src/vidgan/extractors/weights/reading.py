"""Opening weight files of every kind without executing anything in them."""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load_file
from torch import Tensor

from vidgan.errors import UserError
from vidgan.extractors.weights.tensor_table import read_tensor_table
from vidgan.extractors.weights.torchscript import is_torchscript, read_torchscript

INDEX, DATA = ".index", ".data-00000-of-00001"


class UnsafePickleError(UserError):
    """A pickle that wants to execute something."""


class UnreadableFileError(UserError):
    """A file of no kind that is read."""


@dataclass(frozen=True)
class FileIdentity:
    """What tells a file from any other: its name, length and two hashes of its bytes."""

    path: Path
    file: str
    bytes: int
    sha256: str
    git_blob: str


def identify(path: str | Path) -> FileIdentity:
    """Name, length and hashes of a file; of a checkpoint those of its data file.

    Args:
        path: a file; of a checkpoint in two files either of them, their prefix, or their folder.

    Raises:
        UserError: there is no such file.
    """
    prefix = checkpoint_prefix(Path(path))
    if prefix is None:
        content, file = Path(path), Path(path).name
    else:
        content, file = Path(f"{prefix}{DATA}"), prefix.parent.name
    if not content.is_file():
        raise UserError(f"there is no file {content}; give the path of a weight file")
    size = content.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with content.open("rb") as opened:
        while block := opened.read(1 << 20):
            sha256.update(block)
            blob.update(block)
    return FileIdentity(Path(path), file, size, sha256.hexdigest(), blob.hexdigest())


def checkpoint_prefix(path: Path) -> Path | None:
    """The prefix of a TensorFlow checkpoint that `path` names in one way or another, or None.

    Raises:
        UserError: a folder without exactly one checkpoint.
    """
    if path.is_dir():
        found = sorted([*path.glob(f"*{INDEX}"), *path.glob(f"variables/*{INDEX}")])
        if len(found) != 1:
            raise UserError(
                f"{path} holds {len(found)} checkpoints of TensorFlow (files ending in {INDEX}); "
                "give the path of a weight file or of a folder with one"
            )
        path = found[0]
    for end in (INDEX, DATA):
        if path.name.endswith(end):
            return path.with_name(path.name.removesuffix(end))
    return path if Path(f"{path}{INDEX}").is_file() and not path.exists() else None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Every tensor of a weight file by the name it has there.

    Args:
        path: as in `identify`.

    Raises:
        UnsafePickleError: a pickle names something else than tensors; it was not executed.
        UnreadableFileError: none of the kinds that are read.
        UserError: damaged.
    """
    path = Path(path)
    try:
        return _read(path)
    except UserError:
        raise
    except Exception as error:
        # zipfile, pickle, NumPy and torch raise whatever class their code runs into when bytes are
        # damaged; the cure is always the same.
        raise UnreadableFileError(
            f"{path} is none of the weight files that are read (npz, torch.save, safetensors, "
            "TorchScript, a TensorFlow checkpoint), or it is damaged "
            f"({error!r}); download it again"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    prefix = checkpoint_prefix(path)
    if prefix is not None:
        if not Path(f"{prefix}{INDEX}").is_file():
            raise UserError(f"beside {path} there is no {prefix.name}{INDEX}; fetch both files")
        return read_tensor_table(prefix)
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix == ".safetensors":
        return load_file(path)
    if is_torchscript(path):
        return read_torchscript(path)
    return read_state_dict(path)


def read_npz(path: Path) -> dict[str, Tensor]:
    """Arrays of an npz file; NumPy refuses pickled objects with a ValueError."""
    with numpy.load(path, allow_pickle=False) as archive:
        return {
            name: torch.from_numpy(numpy.ascontiguousarray(archive[name])) for name in archive.files
        }


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a file that `torch.save` wrote, with the loader that executes nothing.

    Raises:
        UnsafePickleError: the file asks for something else than tensors and plain values.
        ValueError: no pickle of tensors.
    """
    try:
        with warnings.catch_warnings():
            # It asks people to report the file to PyTorch.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's sentence recommends the loader that executes; only the name it met is kept.
        named = re.search(r"(?:GLOBAL:?|global:|function) ([\w.]+\.[\w.]+)", str(error))
        if not named:
            raise ValueError("no pickle of tensors") from error
        raise UnsafePickleError(
            f"{path} was not opened: it is a pickle that holds not only tensors but calls "
            f"{named[1]}, so it could execute anything; take the file that 'vidgan weights list' "
            "names"
        ) from error
    return plain_tensors(content, path)


def plain_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, out of a checkpoint around it if there is one.

    Raises:
        UnreadableFileError: there are none.
    """
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise UnreadableFileError(
            f"{path} holds no tensors by name; take the file that 'vidgan weights list' names"
        )
    # DataParallel puts a prefix before every name.
    return {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
