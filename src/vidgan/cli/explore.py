"""The verb `explore`: the live page of generators, served from this machine."""

import sys
import webbrowser
from dataclasses import dataclass
from typing import Annotated

import tyro

from vidgan.cli.common import Flags, print_lines

Sources = Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN [RUN ...]")]


@dataclass(frozen=True, kw_only=True)
class ExploreFlags:
    """Flags of `explore`."""

    host: str = "127.0.0.1"
    """address to listen on; beyond this machine a token in the address is needed."""
    port: int = 8800
    """port to listen on; 0 takes a free one."""
    checkpoint: str = "best"
    """of run folders, shown first: best, last or a step."""
    open: bool = False
    """open the page in the browser of this machine."""


def explore(sources: Sources, /, *, flags: Flags[ExploreFlags]) -> None:
    """Serve the live page: other checkpoints beside it, clips of one's own, scores, big models.

    Prints the address to open, and serves until Ctrl-C.

    Args:
        sources: run folders, checkpoint folders, generator files, zoo:NAME or hub ids.
    """
    from vidgan.errors import UserError
    from vidgan.sharing.explore.serve import serve

    if not sources:
        raise UserError("name what to explore: a run folder, a generator file or zoo:NAME")

    def ready(address: str) -> None:
        print_lines(address)
        sys.stdout.flush()
        if flags.open:
            webbrowser.open(address)

    serve(sources, flags.host, flags.port, flags.checkpoint, ready)
