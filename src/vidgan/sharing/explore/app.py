"""The routes of the explorer: the page, clips of any checkpoint, projection of an uploaded clip."""

import asyncio
import base64
import json
import tempfile
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from vidgan.errors import UserError
from vidgan.sampling.projection import ProjectionOptions, project_clip
from vidgan.sharing.explore.guard import Guard
from vidgan.sharing.explore.jobs import (
    BusyError,
    CancelledError,
    Queue,
    Say,
    decode_within_limits,
    narrated,
)
from vidgan.sharing.explore.models import Catalogue
from vidgan.sharing.project import cut_of, features_of, read_target, summary_of
from vidgan.sharing.tracing import TracedGenerator

UPLOAD_BYTES = 64 << 20
REQUEST_BYTES = 16 << 20
"""Largest latent and context that are asked about."""
SILENT_SECONDS = 10.0
"""Longest wait for a whole question."""
STALL_SECONDS = 20.0
"""Longest wait for the next bytes of a body."""
SEARCH = ProjectionOptions(minutes=1.0, starts=256)
"""Half of what `vidgan project` compares, in a fifth of its time: somebody waits for it."""

SHORT_WAITING, LONG_WAITING = 64, 3
"""Requests in line for clips, and for projections."""


class RefusedError(Exception):
    """A request that gets a sentence instead of an answer."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Narration(StreamingResponse):  # type: ignore[misc, unused-ignore]
    """Lines of JSON; however it ends, the work ends with it and what was held is let go."""

    def __init__(self, words: AsyncGenerator[dict[str, Any]], held: AsyncExitStack) -> None:
        self.words, self.held = words, held
        lines = (json.dumps(one) + "\n" async for one in words)
        super().__init__(lines, media_type="application/x-ndjson")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self.held:
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self.words.aclose()


class ImpatientProtocol(H11Protocol):  # type: ignore[misc, unused-ignore]
    """HTTP that closes connections on which nothing is asked, or only half of a question."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first question."""
        super().connection_made(transport)
        self.loop.call_later(SILENT_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.loop.call_later(SILENT_SECONDS, self._close_if_silent)


class Explorer:
    """The application, and what its requests share."""

    def __init__(self, catalogue: Catalogue, host: str, token: str | None) -> None:
        self.catalogue = catalogue
        self.short, self.long = Queue(1, SHORT_WAITING), Queue(1, LONG_WAITING)
        handlers: dict[Any, Any] = {
            RefusedError: _told,
            UserError: _told,
            BusyError: _busy,
            ClientDisconnect: _gone,
        }
        routes = [
            Route("/", self.page),
            Route("/api/model", self.model),
            Route("/api/clip", self.clip, methods=["POST"]),
            Route("/api/projection", self.projection, methods=["POST"]),
        ]
        self.app = Guard(Starlette(routes=routes, exception_handlers=handlers), host, token)

    async def page(self, request: Request) -> Response:
        index = self._index(request)
        html = await self._quick(lambda: self.catalogue.page(index))
        return Response(html, media_type="text/html")

    async def model(self, request: Request) -> Response:
        index = self._index(request)
        return JSONResponse(await self._quick(lambda: self.catalogue.facts(index)))

    async def clip(self, request: Request) -> Response:
        """Float32 values of a clip, whose shape is in a header."""
        index = self._index(request)
        given = _parsed(await _read(request, REQUEST_BYTES))
        clip = await self._quick(lambda: self._make(index, given))
        shape = ",".join(map(str, clip.shape))
        content = clip.numpy().astype("<f4").tobytes()
        return Response(content, headers={"X-Shape": shape}, media_type="application/octet-stream")

    async def projection(self, request: Request) -> Response:
        """Lines of JSON: progress, then a result or an error; reading on is what keeps it going."""
        index = self._index(request)
        label = _whole_number(request, "label")
        async with AsyncExitStack() as held:
            await held.enter_async_context(self.long.place())
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix="vidgan-upload-"))
            file = Path(folder, "clip")
            await _save(request, file, UPLOAD_BYTES)

            def work(say: Say) -> dict[str, Any]:
                return self._project(index, file, label, say)

            return _Narration(narrated(self.long, work, request.is_disconnected), held.pop_all())
        raise AssertionError("unreachable")

    # Work in threads

    async def _quick(self, work: Callable[[], Any]) -> Any:
        async with self.short.place():
            return await self.short.run(lambda _: work())

    def _make(self, index: int, given: dict[str, Any]) -> torch.Tensor:
        generator = self.catalogue.generator(index)
        wanted = TracedGenerator(generator).inputs(0, 1)
        inputs = {}
        for name, like in wanted.items():
            try:
                values = torch.as_tensor(np.asarray(given.get(name), dtype=np.float64))
                inputs[name] = values.reshape(like.shape).to(like.dtype)
            except (TypeError, ValueError, RuntimeError, OverflowError) as error:
                raise RefusedError(400, f"{name} must be {like.numel()} numbers") from error
            if not bool(inputs[name].isfinite().all()):
                raise RefusedError(400, f"{name} must be {like.numel()} finite numbers")
        if "labels" in inputs and not 0 <= int(inputs["labels"]) < generator.num_classes:
            raise RefusedError(400, f"labels must lie in 0..{generator.num_classes - 1}")
        return self.catalogue.clip(index, inputs)[0]

    def _project(self, index: int, file: Path, label: int | None, say: Say) -> dict[str, Any]:
        entry, generator = self.catalogue.entries[index], self.catalogue.generator(index)
        try:
            say({"done": 0, "total": 1, "what": "reading the clip"})
            cut = cut_of(entry.source, generator)
            target = read_target(file, cut, generator, decode_within_limits)
            features = features_of(entry.source, entry.checkpoint, generator)

            def progress(done: int, total: int, what: str) -> None:
                say({"done": done, "total": total, "what": what, "limit": 60 * SEARCH.minutes})

            found = project_clip(generator, target, label, SEARCH, features, progress)
        except UserError as error:
            return {"error": str(error).replace(str(file), "the clip")}
        except CancelledError:
            return {"error": "cancelled"}
        except Exception as error:
            # The page waits for a last line, whatever happens.
            traceback.print_exc()
            return {"error": f"the server failed ({type(error).__name__}); its terminal says more"}
        return {
            "result": summary_of(found, generator),
            "shape": list(target.shape),
            "target": _bytes(found.target),
            "clip": _bytes(found.clip),
        }

    def _index(self, request: Request) -> int:
        index = _whole_number(request, "model") or 0
        if index >= len(self.catalogue.entries):
            raise RefusedError(404, f"there is no model {index}")
        return index


def _bytes(clip: torch.Tensor) -> str:
    return base64.b64encode(clip.numpy().tobytes()).decode()


def _whole_number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise RefusedError(400, f"{name} must be a whole number")
    return int(text)


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "the request is no JSON") from error
    if not isinstance(found, dict):
        raise RefusedError(400, "the request is no JSON object")
    return found


# ------------------------------------------------------------------------------------------------
# Bodies, whose declared and real lengths are bounded


async def _chunks(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise RefusedError(413, f"more than {max_bytes >> 20} MiB")
    stream, count = request.stream(), 0
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), STALL_SECONDS)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise RefusedError(408, f"nothing came for {STALL_SECONDS:.0f} seconds") from error
        count += len(chunk)
        if count > max_bytes:
            raise RefusedError(413, f"more than {max_bytes >> 20} MiB")
        yield chunk


async def _read(request: Request, max_bytes: int) -> bytes:
    return b"".join([chunk async for chunk in _chunks(request, max_bytes)])


async def _save(request: Request, file: Path, max_bytes: int) -> None:
    with file.open("wb") as out:
        async for chunk in _chunks(request, max_bytes):
            await asyncio.to_thread(out.write, chunk)
    if not file.stat().st_size:
        raise RefusedError(400, "the upload is empty")


async def _told(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RefusedError) else 400
    # What is left of a body is not read.
    headers = {"Connection": "close"}
    return Response(str(error), status, headers, media_type="text/plain")


async def _busy(request: Request, error: Exception) -> Response:
    sentence = "others are being served: try again in a minute"
    return Response(sentence, 503, {"Retry-After": "30", "Connection": "close"}, "text/plain")


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)
