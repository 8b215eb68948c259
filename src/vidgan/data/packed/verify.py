"""Reading all of a packed clip set to prove that it is whole."""

from collections.abc import Callable
from pathlib import Path

from vidgan.data.build.report import BuildReport, make_report
from vidgan.data.packed.store import open_store
from vidgan.errors import UserError

_MAX_NAMED = 5


def verify_set(
    path: str | Path, progress: Callable[[int, int, str], None] | None = None
) -> BuildReport:
    """Read every clip of a packed set at every level and check it against its checksum.

    Args:
        path: The packed set.
        progress: Called with (done, total, what).

    Returns:
        What the set says about its build.

    Raises:
        UserError: it is no packed set, or clips are damaged; the sentence names them.
    """
    store = open_store(path)
    damaged: dict[int, str] = {}
    for index in range(len(store)):
        for level in store.levels:
            try:
                store.read(index, level)
            except UserError as error:
                damaged.setdefault(index, str(error))
        if progress:
            progress(index + 1, len(store), "checking clips")
    if len(damaged) == 1:
        raise UserError(*damaged.values())
    if damaged:
        names = [f"{index} ({store.items[index].source})" for index in damaged]
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        raise UserError(
            f"{len(damaged)} of the {len(store)} clips in {path} are damaged or missing, numbers"
            f" {', '.join(names[:_MAX_NAMED])}{more}: build the set again"
        )
    return make_report(path, f"{path} is a packed clip set", store.manifest, None)
