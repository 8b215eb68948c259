"""Tensors of a TorchScript archive, read as data; nothing in the file is executed.

An archive is a zip file whose `data.pkl` describes the module and whose `data/N` hold the values.
A pickle is a program for a stack machine that may call anything it names. The machine here knows
the few instructions that describe data, and where the program says "call", it writes down what
would be called. What comes out is a tree of names, from which the tensors are taken.
"""

import io
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgan.errors import UserError

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
    """The file is no TorchScript archive, or one that says more than data."""


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
    """The bottom of a group of stack entries."""


def is_torchscript(path: str | Path) -> bool:
    """Whether the file is a TorchScript archive, as against a state dict or no zip file at all."""
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
            f"{path} is not a TorchScript archive, or it is damaged ({error!r}); download it again"
        ) from error


def described_data(program: bytes) -> Any:
    """The value a pickle describes, with every call written down and none made.

    Raises:
        ValueError: damaged, or an instruction that data do not need.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(io.BytesIO(program)):
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise ValueError("the description has no end")


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
