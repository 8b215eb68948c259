"""The live page of a generator: one HTML file in which the generator runs in its reader's browser.

Nothing is computed elsewhere and nothing is asked of a server. The page draws the same latents for
a seed as Python does.
"""

from pathlib import Path
from typing import Any

import torch

from vidgan.core.code_version import VERSION
from vidgan.errors import counted
from vidgan.models.base import Box, Generator
from vidgan.report.explorer import (
    ContextBox,
    Direction,
    LatentPart,
    LivePage,
    ServerFacts,
    live_page,
)
from vidgan.sharing.directions import find_directions
from vidgan.sharing.runtime import VERSION as RUNTIME_VERSION
from vidgan.sharing.runtime import WebRuntime
from vidgan.sharing.tracing import TracedGenerator

LARGE_PIXELS = 512
"""Side of what is saved and shown, at most; a frame is enlarged by a whole number."""


def build_page(
    source: TracedGenerator,
    name: str,
    model: bytes,
    runtime: WebRuntime | None,
    server: ServerFacts | None = None,
) -> str:
    """The page as HTML.

    Args:
        source: the generator and the length of its clips.
        name: what Python would load it from; its last part is the title.
        model: the generator as an ONNX model.
        runtime: what runs it; None leaves that, and the model, to the server.
        server: what the server adds; None for a page on its own.
    """
    generator, card = source.generator, source.card
    inputs = source.inputs(0, 1)
    _, num_frames, height, width = source.generate(inputs).shape[1:]
    context = _context_of(generator, inputs)
    shown = num_frames + (context["shape"][1] if context and context["goesFirst"] else 0)
    parts = _parts_of(source)
    facts = [
        str(card.model["name"]),
        f"{num_frames} frames of {width}\u00d7{height} px",
        *([counted(generator.num_classes, "class")] if generator.num_classes else []),
        f"step {card.step:,}",
    ]
    return live_page(
        LivePage(
            title=Path(name).name or name,
            source=name,
            facts=facts,
            fps=card.fps,
            num_frames=shown,
            asked_frames=source.num_frames,
            classes=list(card.class_names) if generator.num_classes else [],
            latent_length=inputs["latent"].shape[1] if "latent" in inputs else 0,
            parts=parts,
            truncation=generator.supports_truncation,
            directions=_directions_of(source) if parts and context is None else [],
            context=context,
            context_kind=generator.context_kind,
            enlarge=max(1, LARGE_PIXELS // max(height, width)),
            version=VERSION,
            runtime=RUNTIME_VERSION,
            model=model,
            library=runtime.library if runtime else b"",
            binary=runtime.binary if runtime else b"",
            server=server,
        )
    )


def facts_of(source: TracedGenerator) -> dict[str, Any]:
    """What a page needs to draw latents for a second generator beside its own."""
    generator = source.generator
    return {
        "parts": _parts_of(source),
        "latentLength": generator.latent_dim(source.num_frames),
        "classes": list(source.card.class_names) if generator.num_classes else [],
    }


def _parts_of(source: TracedGenerator) -> list[LatentPart]:
    generator = source.generator
    length = generator.latent_dim(source.num_frames)
    found = []
    for name, part in generator.latent_parts.items():
        frame = generator.frame_noise.get(name, 0)
        stop = length if frame else part.stop
        if stop > part.start:
            found.append(
                LatentPart(
                    name=repr(name),
                    start=part.start,
                    stop=stop,
                    frame=frame,
                    moves=name in generator.motion_parts,
                )
            )
    return found


def _directions_of(source: TracedGenerator) -> list[Direction]:
    found = find_directions(source.generator, num_frames=source.num_frames)
    return [
        Direction(values=values.tolist(), share=float(share))
        for values, share in zip(*found, strict=True)
    ]


def _context_of(generator: Generator, inputs: dict[str, torch.Tensor]) -> ContextBox | None:
    if "context" not in inputs:
        return None
    shape = inputs["context"].shape[1:]
    hidden = None
    if generator.supports_mask:
        whole = Box(0, 0, shape[-1], shape[-2])
        hidden = float(generator.cover(inputs["context"], whole)[0, 0, 0, 0, 0])
    return ContextBox(shape=list(shape), goesFirst=generator.context_overlap == 0, hidden=hidden)
