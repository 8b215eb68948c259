"""The generators that the explorer shows: a list made at the start, indexed by requests."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgan.core.distributed import default_device
from vidgan.core.progress import say
from vidgan.errors import UserError
from vidgan.evaluation.record_checks import read_run_records
from vidgan.models.base import Generator
from vidgan.report.explorer import ServerFacts
from vidgan.report.page import ScoreTable
from vidgan.report.scores import table_of_record
from vidgan.sampling.storage import find_generator_file, list_checkpoints, load_generator
from vidgan.sharing.export import onnx_model, onnx_session
from vidgan.sharing.runtime import WebRuntime, read_runtime
from vidgan.sharing.tracing import TracedGenerator, largest_difference
from vidgan.sharing.web import build_page, facts_of

KEPT = 4
"""Generators and pages that stay in memory."""
LARGEST_MODEL = 15_000_000
"""Bytes of weights beyond which clips are made here and not in the browser."""
MAX_CHECKPOINTS = 50
MAX_TABLES = 3


@dataclass(frozen=True)
class Entry:
    """A generator on the list.

    Attributes:
        title: what people read.
        source: what `load_generator` takes.
        checkpoint: of a run, else `best`.
        run: the run folder, None for others.
    """

    title: str
    source: str
    checkpoint: str
    run: Path | None


def list_entries(sources: Sequence[str], checkpoint: str = "best") -> list[Entry]:
    """All generators of the sources: the chosen checkpoint of each first, then the others of runs.

    Raises:
        UserError: a source holds no generator.
    """
    chosen, others = [], []
    for source in sources:
        file = find_generator_file(source, checkpoint)
        name = Path(source).name or source
        run = Path(source) if Path(source, "checkpoints").is_dir() else None
        if run is None:
            chosen.append(Entry(name, source, "best", None))
            continue
        step = int(file.parent.name.removeprefix("step-"))
        steps = [other for other in list_checkpoints(run)[-MAX_CHECKPOINTS:] if other != step]
        entries = [Entry(f"{name}, step {at:,}", source, str(at), run) for at in (step, *steps)]
        chosen.append(entries[0])
        others += entries[1:]
    return [*chosen, *others]


class Catalogue:
    """Loads the generators of a list and builds their pages; safe to use from several threads."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = list(entries)
        self._lock = threading.Lock()
        self._generators: OrderedDict[int, Generator] = OrderedDict()
        self._pages: OrderedDict[int, bytes] = OrderedDict()

    def generator(self, index: int) -> Generator:
        """The generator at an index, loaded at most once while it stays in memory."""
        with self._lock:
            return self._generator(index)

    def page(self, index: int) -> bytes:
        """The page of a generator as HTML in UTF-8."""
        with self._lock:
            found = self._pages.get(index)
            if found is None:
                found = self._build(index).encode()
                _keep(self._pages, index, found)
            return found

    def facts(self, index: int) -> dict[str, Any]:
        """What a page needs to draw latents of a generator."""
        return facts_of(TracedGenerator(self.generator(index)))

    @torch.no_grad()
    def clip(self, index: int, inputs: dict[str, Tensor]) -> Tensor:
        """A float clip `[1, C, T, H, W]`."""
        generator = self.generator(index)
        device = next(generator.parameters()).device
        given = {name: value.to(device) for name, value in inputs.items()}
        return TracedGenerator(generator).generate(given).float().cpu()

    def records(self, index: int) -> list[ScoreTable]:
        """The newest evaluations of the run, as tables."""
        run = self.entries[index].run
        if run is None:
            return []
        records, refused = read_run_records(run, None, MAX_TABLES)
        for sentence in refused:
            say(f"left out: {sentence}")
        return [table_of_record(found.record, found.marks) for found in records]

    def _generator(self, index: int) -> Generator:
        found = self._generators.get(index)
        if found is None:
            entry = self.entries[index]
            found = load_generator(entry.source, entry.checkpoint).to(default_device())
            _keep(self._generators, index, found)
        return found

    def _build(self, index: int) -> str:
        entry = self.entries[index]
        # A copy of its own on the CPU, where it is exported; the other one makes clips meanwhile.
        source = TracedGenerator(load_generator(entry.source, entry.checkpoint))
        # Exporting takes too long to do for every checkpoint that somebody looks at.
        model, runtime = _for_browser(source) if index == 0 else (b"", None)
        server = ServerFacts(
            current=index,
            titles=[other.title for other in self.entries],
            projects=bool(source.generator.latent_dim()) and not source.generator.context_frames,
            checkpoint=None if entry.run is None else entry.checkpoint,
            records=self.records(index),
        )
        # Where a run lies on this machine is nobody's business.
        name = Path(entry.source).name if Path(entry.source).is_absolute() else entry.source
        return build_page(source, name, model, runtime, server)


def _keep(cache: "OrderedDict[int, Any]", index: int, value: Any) -> None:
    cache[index] = value
    while len(cache) > KEPT:
        cache.popitem(last=False)


def _for_browser(source: TracedGenerator) -> tuple[bytes, WebRuntime | None]:
    """The generator as an ONNX model with its runtime; nothing and None if it runs here."""
    weights = sum(p.numel() * p.element_size() for p in source.generator.state_dict().values())
    if weights > LARGEST_MODEL:
        say(f"clips are made here: {weights / 1e6:.0f} MB of weights are many for a browser")
        return b"", None
    try:
        runtime = read_runtime()
        model = onnx_model(source).SerializeToString()
        largest_difference(source, onnx_session(model))
    except ImportError as error:
        say(f"clips are made here: the extra 'export' is missing ({error.name})")
    except UserError as error:
        say(f"clips are made here: {error}")
    else:
        return model, runtime
    return b"", None
