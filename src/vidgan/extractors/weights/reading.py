"""Reading weight files of every kind without executing anything in them."""

import hashlib
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load_file
from torch import Tensor

from vidgan.core.files import refuse_special
from vidgan.errors import UserError
from vidgan.extractors.weights.checking import own_words
from vidgan.extractors.weights.tensor_table import read_tensor_table

# ------------------------------------------------------------------------------------------------
# Tensors of a TorchScript archive, read as data; nothing in the file is executed.
#
# An archive is a zip file whose `data.pkl` describes the module and whose `data/N` hold the values.
# A pickle is a program for a stack machine that may call anything it names. The machine here knows
# the few instructions that describe data, and where the program says "call", it writes down what
# would be called. What comes out is a tree of names, from which the tensors are taken.

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
}
REBUILD = ("torch._utils", "_rebuild_tensor_v2")


class UnreadableArchiveError(UserError):
    """The file is not a TorchScript archive, or holds more than data."""


@dataclass
class Called:
    """What the program would have called or made: nothing happened."""

    what: Any
    arguments: Any
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Global:
    """A name the program refers to, as text."""

    module: str
    name: str


@dataclass(frozen=True)
class Stored:
    """Values in the archive: the file `data/key`."""

    dtype: torch.dtype
    key: str
    count: int


class _Mark:
    """The mark below a group of stack entries."""


def is_torchscript(path: str | Path) -> bool:
    """Whether the file is a TorchScript archive, not a state dict or another kind of file."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript archive, by their dotted names.

    Raises:
        UnreadableArchiveError: the file is damaged or is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (described,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
            root = described.removesuffix("data.pkl")
            tree = described_data(archive.read(described))
            found = dict(_tensors_of(tree, "", set()))
            if not found:
                raise ValueError("it describes no module with tensors")
            return {name: _tensor(call, archive, root) for name, call in found.items()}
    except Exception as error:
        # Damaged bytes make zipfile, pickletools and torch raise errors of any class.
        raise UnreadableArchiveError(
            f"{path} is not a TorchScript archive, or it is damaged{own_words(error)}: download it "
            "again"
        ) from error


def described_data(program: bytes) -> Any:
    """The value a pickle describes, with every call written down and none made.

    Raises:
        ValueError: damaged, or an instruction that plain data never needs.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(io.BytesIO(program)):
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise ValueError("the description is endless")


class _Machine:
    """The stack and the memory of a pickle's program."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self.memory[len(self.memory) if name == "MEMOIZE" else int(argument)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memory[int(argument)])
        else:
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name == "GLOBAL":
            stack.append(Global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            stack.append(Global(module, last))
        elif name == "BINPERSID":
            stack.append(_stored(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, what = stack.pop(), stack.pop()
            stack.append(Called(what, arguments))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state.update(state)
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            group = self._group() if name == "TUPLE" else self._last(int(name[-1]))
            stack.append(tuple(group))
        elif name in ("APPEND", "APPENDS"):
            group = self._last(1) if name == "APPEND" else self._group()
            stack[-1].extend(group)
        elif name in ("SETITEM", "SETITEMS"):
            group = self._last(2) if name == "SETITEM" else self._group()
            target = stack[-1].state if isinstance(stack[-1], Called) else stack[-1]
            target.update(zip(group[::2], group[1::2], strict=True))
        else:
            raise ValueError(f"the instruction {name}")

    def _group(self) -> list[Any]:
        place = max(i for i, entry in enumerate(self.stack) if isinstance(entry, _Mark))
        group = self.stack[place + 1 :]
        del self.stack[place:]
        return group

    def _last(self, count: int) -> list[Any]:
        group = self.stack[-count:]
        del self.stack[-count:]
        return group


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": _Mark,
}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "INT", "LONG1", "BINFLOAT", "BINUNICODE", "BINUNICODE8"}
    | {"SHORT_BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BINSTRING", "SHORT_BINSTRING"}
)


def _stored(identity: Any) -> Stored:
    kind, storage, key, _, count = identity
    if kind != "storage" or not isinstance(storage, Global):
        raise ValueError(f"values of kind {kind!r}")
    return Stored(STORAGES[storage.name], str(key), int(count))


def _tensors_of(node: Any, path: str, above: set[int]) -> Iterator[tuple[str, Called]]:
    """Tensors below a module, with their names."""
    if id(node) in above:
        raise ValueError(f"{path} holds itself")
    if not isinstance(node, Called):
        return
    if node.what == Global(*REBUILD):
        yield path, node
        return
    for name, value in node.state.items():
        inner = f"{path}.{name}" if path else str(name)
        yield from _tensors_of(value, inner, above | {id(node)})


def _tensor(call: Called, archive: zipfile.ZipFile, root: str) -> Tensor:
    stored, offset, size, stride = call.arguments[:4]
    info = archive.getinfo(f"{root}data/{stored.key}")
    if info.file_size != stored.count * stored.dtype.itemsize:
        raise ValueError(f"data/{stored.key} holds {info.file_size} bytes")
    if min((offset, *size, *stride), default=0) < 0:
        raise ValueError(f"data/{stored.key} is read outside of it")
    values = torch.frombuffer(bytearray(archive.read(info)), dtype=stored.dtype)
    # as_strided refuses to leave the storage.
    return values.as_strided(size, stride, offset).clone()


# ------------------------------------------------------------------------------------------------
# Reading weight files of every kind without executing anything in them

INDEX, DATA = ".index", ".data-00000-of-00001"


class UnsafePickleError(UserError):
    """A pickle that would execute code."""


class UnreadableFileError(UserError):
    """A file of an unsupported kind."""


@dataclass(frozen=True)
class FileIdentity:
    """The identity of a file: its name, length and two hashes."""

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
    refuse_special(content)
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
            f"TorchScript, a TensorFlow checkpoint), or it is damaged{own_words(error)}: download "
            "it again"
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
    """Arrays of an npz file.

    Raises:
        ValueError: it holds pickled objects, or is damaged.
    """
    try:
        with numpy.load(path, allow_pickle=False) as archive:
            arrays = {name: numpy.ascontiguousarray(archive[name]) for name in archive.files}
    except ValueError as error:
        # NumPy's sentence recommends the loader that executes.
        raise ValueError("it holds something else than arrays of numbers") from error
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


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
            f"{path} holds no named tensors; take the file that 'vidgan weights list' names"
        )
    # DataParallel puts a prefix before every name.
    return {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
