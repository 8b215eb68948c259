"""Features and probabilities of clips for an evaluation, extracted once per set."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidgan.core.distributed import Processes
from vidgan.extractors.extractor import Extractor
from vidgan.extractors.feature_store import PART_CLIPS, FeatureStore
from vidgan.extractors.judge import Extraction, clips_hash
from vidgan.metrics.statistics import refuse_not_finite

ALONE = Processes()


class ScoredSet(NamedTuple):
    """Clips, uint8 `[M, C, T, H, W]`, and what the network made of them (None without one)."""

    clips: Tensor
    extraction: Extraction | None

    @classmethod
    def of(
        cls,
        clips: Tensor,
        extractor: Extractor | None,
        store: FeatureStore | None = None,
        seen: Tensor | None = None,
        processes: Processes = ALONE,
    ) -> "ScoredSet":
        """The clips with their features.

        Args:
            clips: uint8.
            extractor: None gives none.
            store: where features are kept between evaluations; None extracts again.
            seen: unrounded float clips to show the network instead.
            processes: those that share the work.
        """
        if extractor is None:
            return cls(clips, None)
        shown = clips if seen is None else seen
        return cls(clips, extract_stored(extractor, shown, store, processes))

    def take(self, rows: Tensor) -> "ScoredSet":
        """The clips in `rows`, int64; nothing is computed again."""
        if self.extraction is None:
            return ScoredSet(self.clips[rows], None)
        return ScoredSet(self.clips[rows], Extraction(*(part[rows] for part in self.extraction)))

    @property
    def features(self) -> Tensor:
        """Features as rows, `[M, F]`, or `[M * K, F]` of K frames a clip.

        Raises:
            ValueError: there is no network.
        """
        if self.extraction is None:
            raise ValueError("the reference was extracted and a set compared with it was not")
        features = self.extraction.features
        return _rows(features)

    @property
    def probabilities(self) -> Tensor:
        """Probabilities `[M, N]`, or `[M * K, N]`; errors as in `features`."""
        if self.extraction is None:
            raise ValueError("the reference was extracted and a set compared with it was not")
        return _rows(self.extraction.probabilities)


def _rows(values: Tensor) -> Tensor:
    return values.flatten(0, 1) if values.ndim == 3 else values


@dataclass(frozen=True)
class ShownFrames:
    """An extractor that is shown only the frames a protocol names.

    Attributes:
        inner: the extractor.
        step: every few frames are shown.
        one_frame: whether a network of single frames sees one of each clip; which one, the clip's
            checksum decides, so that neither order nor batches matter.
    """

    inner: Extractor
    step: int = 1
    one_frame: bool = False

    @property
    def name(self) -> str:
        """As in `Extractor`."""
        return self.inner.name

    @property
    def dim(self) -> int:
        """F."""
        return self.inner.dim

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self.inner.fingerprint

    def record(self) -> dict[str, Any]:
        """Everything that decides the features, as plain values."""
        shown = {"frame_step": self.step, "one_frame": self.one_frame}
        return {**self.inner.record(), "shown": shown}

    def arrays(self, clips: Tensor) -> dict[str, Tensor]:
        """As in `Extractor`."""
        clips = clips[:, :, :: self.step]
        if not self.one_frame:
            return self.inner.arrays(clips)
        chosen = torch.tensor([zlib.crc32(c.contiguous().numpy()) % c.shape[1] for c in clips])
        rows = torch.arange(clips.shape[0])
        frames = clips[rows, :, chosen][:, :, None]  # [M, C, 1, H, W]
        return {kind: values[:, 0] for kind, values in self.inner.arrays(frames).items()}


def extract_stored(
    extractor: Extractor, clips: Tensor, store: FeatureStore | None, processes: Processes = ALONE
) -> Extraction:
    """Features of clips `[M, C, T, H, W]`, taken from the store if it has them.

    Args:
        extractor: the network.
        clips: uint8, or float in [-1, 1] under a protocol that does not round.
        store: None extracts again.
        processes: those that share the work.

    Raises:
        UserError: the network gives values that are not finite.
    """

    def extract(part: Tensor) -> dict[str, Tensor]:
        arrays = extractor.arrays(part)
        for kind, values in arrays.items():
            refuse_not_finite(f"the {kind} that {extractor.name} gives of these clips", values)
        return arrays

    def extract_rows(start: int, stop: int) -> dict[str, Tensor]:
        return extract(clips[start:stop])

    if store is None:
        return _extraction(processes.share_rows(len(clips), PART_CLIPS, extract_rows))
    facts = {
        "extractor": extractor.record(),
        "clips": clips_hash(clips, torch.zeros(0, dtype=torch.int64)),
        # Another version may round the last digit otherwise.
        "torch": torch.__version__,
    }
    stored = store.obtain(
        facts, clips.shape[0], lambda a, b: clips[a:b], extract, processes=processes
    )
    return _extraction({kind: stored.array(kind) for kind in stored.kinds})


def _extraction(arrays: Mapping[str, Tensor]) -> Extraction:
    features = arrays["features"]
    nothing = torch.zeros(features.shape[0], 0)
    return Extraction(features, arrays.get("probabilities", nothing))
