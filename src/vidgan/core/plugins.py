"""From a name to a class: the only place where a setting decides what code is imported.

A name in a file (`config.yaml`, the card of a generator, a record) finds classes of three kinds:
the built-in ones, those that an installed package registered under an entry point, and those that
this process imported already because its user asked for them. A file alone never causes an import
of something else. `trust` is how a user asks; `import my_package.my_module` in a script does too.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vidgan.errors import UserError

SAFE_PATH = "PYTHONSAFEPATH"
"""Environment variable that keeps the working directory off `sys.path` of new interpreters."""


@dataclass(frozen=True)
class Registry:
    """A registry of classes of one kind.

    Attributes:
        kind: what messages call such a class, such as `model`.
        setting: what they call its name, such as `model.name`.
        group: entry points by which installed packages add theirs.
        table: built-in names to `module:Class`; they win over entry points of the same name.
    """

    kind: str
    setting: str
    group: str
    table: Mapping[str, str]

    def names(self) -> list[str]:
        """Built-in and registered names."""
        return sorted({*self.table, *self._registered()})

    def find(self, name: str) -> type:
        """The class called `name`: built in, registered, or imported by this process already.

        Raises:
            UserError: there is none, it cannot be imported, or only the name asks for it.
        """
        point: EntryPoint | None
        if name in self.table:
            point = EntryPoint(name, self.table[name], self.group)
        else:
            point = self._registered().get(name)
        if point is not None:
            try:
                found = point.load()
            except Exception as error:
                # A package may raise anything while it is imported.
                raise UserError(f"{self.setting}={name} cannot be imported: {error}") from error
        elif ":" in name:
            found = _imported(name)
            if found is None:
                raise UserError(
                    f"{self.setting}={name} names code that no installed package registered, and a"
                    f" file cannot choose what runs: if you trust it, add --trust {name} (in a"
                    " script, import its module first)"
                )
        else:
            known = ", ".join(self.names())
            raise UserError(f"there is no {self.kind} {name!r}; choose one of {known}")
        if not isinstance(found, type):
            raise UserError(f"{self.setting}={name} is not a class")
        return found

    def name_of(self, cls: type) -> str:
        """The name under which `find` finds a class again, in another process if it may."""
        target = f"{cls.__module__}:{cls.__qualname__}"
        for name, known in self.table.items():
            if known == target:
                return name
        registered = self._registered().items()
        return next((name for name, point in registered if point.value == target), target)

    def _registered(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}


def trust(name: str) -> None:
    """Import the class `package.module:Class`, because the user named it; files may then name it.

    Raises:
        UserError: the word has another form, or there is no such class.
    """
    module, separator, attribute = name.partition(":")
    if not (separator and attribute.isidentifier() and _is_module_name(module)):
        raise UserError(f"{name!r} names no class: write it as package.module:Class")
    try:
        importlib.import_module(module)
    except Exception as error:
        # Whatever the user's module raises while it is imported.
        raise UserError(
            f"{name} cannot be imported ({type(error).__name__}: {error}); install its package, or"
            " put the folder of the module on PYTHONPATH"
        ) from error
    if _imported(name) is None:
        raise UserError(f"{name} cannot be imported: {module} has no class {attribute}")


def trust_typed(name: Any) -> None:
    """`trust` a name that stands among the words of a user, if it names a class of a module."""
    if isinstance(name, str) and ":" in name:
        trust(name)


def _imported(name: str) -> Any:
    """The class `module:Class` if its module is loaded; None otherwise."""
    module, _, attribute = name.partition(":")
    found = vars(sys.modules[module]).get(attribute) if module in sys.modules else None
    return found if isinstance(found, type) else None


def _is_module_name(module: str) -> bool:
    return all(part.isidentifier() for part in module.split("."))


@contextmanager
def safe_path_for_children() -> Iterator[None]:
    """Let interpreters that start meanwhile import nothing from the working directory.

    A spawned worker begins with `python -c`, which puts the working directory first; a file
    `pickle.py` there, beside videos that came from elsewhere, would run. What this process can
    import reaches workers as its `sys.path`.
    """
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before
