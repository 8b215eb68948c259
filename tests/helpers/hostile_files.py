"""Files made to hang, crash, fill memory or read what is not theirs, by the format they abuse."""

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from vidgan.core.crc32c import masked_crc32c

HUGE = 10**15
ODD = [
    *(None, True, -1, 0, 1.5, HUGE, 2**70, float("nan"), float("inf"), "", "x", "\0", [], {}, [[]]),
    *([None], [HUGE], {"a": {"b": {"c": 1}}}),
]

Make = Callable[[Path], None]


def manifest_changes() -> Iterator[tuple[str, Callable[[dict[str, Any]], None]]]:
    """Manifests of packed sets in which one value is replaced."""
    fields = [
        *("levels", "classes", "attributes", "fps", "items_per_chunk", "items", "dropped"),
        *("notes", "flaws", "num_bytes", "settings", "source_hash", "builder", "chunks", "layout"),
        *("num_missing", "schema", "format"),
    ]
    for name in fields:
        for value in ODD:
            yield f"{name}={str(value)[:20]}", lambda table, n=name, v=value: table.update({n: v})
    for name in ("frames", "resolution", "codec"):
        for value in ODD:
            yield (
                f"levels.{name}={str(value)[:20]}",
                lambda table, n=name, v=value: table["levels"][0].update({n: v}),
            )
    for name in ("label", "split", "source", "stored_frames", "crc32", "group"):
        for value in ODD:
            yield (
                f"items.{name}={str(value)[:20]}",
                lambda table, n=name, v=value: table["items"][n].__setitem__(0, v),
            )
        yield f"items.{name} short", lambda table, n=name: table["items"][n].pop()
        yield f"items.{name} gone", lambda table, n=name: table["items"].pop(n)


def payloads(size: int) -> dict[str, bytes]:
    """Bytes that are not a zstd frame of `size` bytes."""
    compress = zstandard.ZstdCompressor().compress
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress
    header = zstandard.FRAME_HEADER
    return {
        "empty": b"",
        "text": b"hello",
        "magic alone": header,
        "one byte more": compress(bytes(size + 1)),
        "one byte less": compress(bytes(size - 1)),
        "nothing inside": compress(b""),
        "without a size": unsized(bytes(size)),
        "a gigabyte": compress(bytes(1 << 30)),
        "an exabyte": header + b"\xe0" + struct.pack("<Q", 1 << 60) + b"\1\0\0",
        "a window of terabytes": header + b"\x00\xff" + b"\1\0\0",
        "cut off": compress(np.random.default_rng(0).bytes(size))[: size // 2],
        "dictionary": header + b"\x23" + b"\1\0\0\0" + struct.pack("<B", 1) + b"\1\0\0",
    }


def _tar(members: list[tuple[tarfile.TarInfo, bytes]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _member(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def _zip(members: dict[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def archives() -> dict[str, tuple[str, bytes]]:
    """Name of the file and its bytes."""
    return {**_tars(), **_compressed(), **_zips()}


def _pax(**headers: str) -> bytes:
    return _tar([(_member("a.mp4", 4, pax_headers=headers), b"abcd")])


def _tars() -> dict[str, tuple[str, bytes]]:
    whole = _tar([(_member("a.mp4", 4), b"abcd")])
    links = [
        (_member("a.mp4", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
        (_member("b.mp4", type=tarfile.LNKTYPE, linkname="../../x"), b""),
        (_member("c.mp4", type=tarfile.FIFOTYPE), b""),
        (_member("d.mp4", type=tarfile.CHRTYPE), b""),
    ]
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "9" * 30}
    video = (_member("a.mp4", 4), b"abcd")
    empty = npy_header("(0,)") + bytes(9000 - len(npy_header("(0,)")))
    files = {
        "pax size": _pax(size=str(2**70)),
        "pax negative": _pax(size="-5"),
        "pax no number": _pax(size="x"),
        "pax sparse": _pax(**sparse),
        "links": _tar(links),
        "outside": _tar([(_member("../../a.mp4", 4), b"abcd")]),
        "absolute": _tar([(_member("/etc/a.mp4", 4), b"abcd")]),
        "cut": whole[:700],
        "garbage": b"\xff" * 4096,
        "zeros": bytes(1 << 20),
        "sidecars": _tar([(_member("a.json", 40_000), b"[" * 40_000), video]),
        "a sidecar of digits": _tar([(_member("a.cls", 9000), b"9" * 9000), video]),
        "numbers": _tar([(_member(f"c/{'9' * 90}{n}.png", 1), b"x") for n in range(3)]),
        "npy inside": _tar([(_member("a.npy", 9000), empty)]),
    }
    return {f"tar {name}": ("a.tar", data) for name, data in files.items()}


def _compressed() -> dict[str, tuple[str, bytes]]:
    return {
        "gzip bomb": ("bomb.tar.gz", zlib.compress(bytes(1 << 28), 9, 31)),
        "gzip garbage": ("bad.tar.gz", b"\x1f\x8b" + bytes(100)),
        "bz2 garbage": ("bad.tar.bz2", b"BZh9" + bytes(100)),
        "xz garbage": ("bad.tar.xz", b"\xfd7zXZ\0" + bytes(100)),
    }


def _zips() -> dict[str, tuple[str, bytes]]:
    whole = _zip({"a.mp4": b"abcd"})
    forged, offset = bytearray(whole), bytearray(whole)
    at = whole.rfind(b"PK\1\2")
    forged[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFFE)
    offset[at + 42 : at + 46] = struct.pack("<I", 0x7FFFFFFF)
    files = {
        "bomb": _zip({"a.mp4": bytes(1 << 28)}),
        "size": bytes(forged),
        "offset": bytes(offset),
        "cut": whole[:-10],
        "end alone": b"PK\5\6" + b"\xff" * 18,
        "outside": _zip({"../../a.mp4": b"x"}),
        "start alone": b"PK\3\4" + bytes(200),
    }
    return {f"zip {name}": ("a.zip", data) for name, data in files.items()}


def npy_header(shape: str, descr: str = "'|u1'") -> bytes:
    """The start of an NPY file whose header says anything."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    padded = text + " " * (118 - len(text) - 1) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(padded)) + padded.encode()


def arrays() -> dict[str, tuple[str, bytes]]:
    """Files of arrays."""
    shapes = {
        *(
            "()",
            "(0,)",
            "(0,0,0,0)",
            "(0,8,16,16,3)",
            "(4,0,16,16,3)",
            "(4,8,0,0,3)",
            "(-1,8,16,16,3)",
        ),
        *("(1,)", "(4,8,16,16,0)", f"({HUGE},16,16,3)", f"({2**62},{2**62})", "(True,16,16)"),
        *("(8,16,16)", "[8,16,16]", "8", "None", "(1.5,16,16)", "('a',)", "(((((1)))))"),
    }
    types = ["'|O'", "'<M8[s]'", "'|V9'", "'<c16'", "'|S5'", "[('a','<i4')]", "'x'", "9", "'<f2'"]
    files = {f"shape {shape}": ("a.npy", npy_header(shape) + bytes(2048)) for shape in shapes}
    files |= {
        f"type {kind}": ("a.npy", npy_header("(8,16,16)", kind) + bytes(40_000)) for kind in types
    }
    whole = npy_header("(4,8,16,16,3)") + bytes(4 * 8 * 256 * 3)
    files |= {
        "npy empty": ("a.npy", b""),
        "npy magic": ("a.npy", b"\x93NUMPY"),
        "npy version": ("a.npy", b"\x93NUMPY\\9\\9" + bytes(99)),
        "npy header size": ("a.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(99)),
        "npy header code": ("a.npy", npy_header("__import__('os').system('x')")),
        "npy nested": ("a.npy", npy_header("(" * 40 + ")" * 40)),
        "npz of nothing": ("a.npz", _zip({})),
        "npz of text": ("a.npz", _zip({"a.npy": b"hello"})),
        "npz bomb": ("a.npz", _zip({"a.npy": npy_header("(16384,16384)") + bytes(1 << 28)})),
        "npz pickle": ("a.npz", _zip({"a.npy": npy_header("(1,)", "'|O'") + b"cos\nsystem\n"})),
        "npz shape": ("a.npz", _zip({"a.npy": npy_header(f"({HUGE},16,16,3)") + bytes(99)})),
        "npz cut": ("a.npz", _zip({"a.npy": whole})[:-40]),
        "hdf5 garbage": ("a.h5", b"\x89HDF\r\n\x1a\n" + b"\xff" * 4096),
        "hdf5 cut": ("a.h5", b"\x89HDF\r\n\x1a\n"),
        "hdf5 text": ("a.h5", b"hello"),
    }
    return files


def record(data: bytes, length: int | None = None) -> bytes:
    """A TFRecord with right checksums."""
    header = struct.pack("<Q", len(data) if length is None else length)
    return (
        header
        + struct.pack("<I", masked_crc32c(header))
        + data
        + struct.pack("<I", masked_crc32c(data))
    )


def _field(number: int, data: bytes) -> bytes:
    size, out = len(data), bytes([number << 3 | 2])
    while size > 127:
        out, size = out + bytes([size & 127 | 128]), size >> 7
    return out + bytes([size]) + data


def example(**features: bytes) -> bytes:
    """An Example with features given as the bytes of their message."""
    entries = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, body)) for name, body in features.items()
    )
    return _field(1, entries)


def tfrecords() -> dict[str, tuple[str, bytes]]:
    """Files of TFRecords."""
    png = _field(1, _field(1, b"\x89PNG") + _field(1, b"\x89PNG"))
    shape = _field(3, _field(1, b"\x01\x01\x10\x10"))
    negative = _field(3, _field(1, b"\xff" * 9 + b"\x01" + b"\x01\x10\x10"))
    bodies = {
        "empty": b"",
        "text": b"hello",
        "varint": b"\xff" * 20,
        "group": b"\x0b\x0b\x0b",
        "long field": b"\x0a\xff\xff\xff\xff\x0f",
        "images": example(frames=png),
        "shape without data": example(shape=shape),
        "shape and little data": example(shape=shape, data=_field(1, _field(1, b"x"))),
        "negative shape": example(shape=negative, data=_field(1, _field(1, b"x"))),
        "video": example(video=_field(1, _field(1, b"\0\0\0\x18ftypmp42" + bytes(50)))),
        "many numbers": example(label=_field(3, _field(1, b"\x01" * 4_000_000))),
        "nested": _field(1, _field(1, _field(1, _field(1, _field(1, b"x"))))),
        "broken floats": example(a=_field(2, _field(1, b"abc"))),
    }
    files = {name: ("a.tfrecords", record(body)) for name, body in bodies.items()}
    files |= {
        "a length of exabytes": ("a.tfrecords", record(b"x", 1 << 60)),
        "a length beyond 64 bits of signs": ("a.tfrecords", record(b"x", (1 << 64) - 1)),
        "half a header": ("a.tfrecords", b"\1\0\0"),
        "zeros": ("a.tfrecords", bytes(100_000)),
        "gzip": ("a.tfrecords", b"\x1f\x8b" + bytes(50)),
    }
    return files


def texts_that_ffmpeg_reads(secret: Path) -> dict[str, bytes]:
    """Playlists and lists that name another file."""
    name = str(secret)
    return {
        "ffconcat": f"ffconcat version 1.0\nfile '{name}'\nduration 5\n".encode(),
        "ffconcat beside": b"ffconcat version 1.0\nfile secret.mp4\n",
        "hls": f"#EXTM3U\n#EXTINF:1,\nfile:{name}\n#EXT-X-ENDLIST\n".encode(),
        "hls by name": b"#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "dash": f"<MPD><Period><BaseURL>{name}</BaseURL></Period></MPD>".encode(),
        "sdp": b"v=0\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        "subtitles": b"WEBVTT\n\n00:00.000 --> 00:01.000\nhi\n",
        "ansi": b"\x1b[31mhello\x1b[0m" * 100,
        "vobsub": b"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n",
        "ffmetadata": b";FFMETADATA1\ntitle=x\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="secret.mp4"/></svg>',
        "text": b"hello\n" * 100,
    }


def cards(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cards of generators that ask for what their weights do not hold."""
    for name in ("channels", "latent", "channel_base", "head_blocks", "group_size", "label_dim"):
        for value in (-1, 0, HUGE, 2**40, 60_000, [60_000, 60_000], [], "x", None):
            yield f"{name}={value}", {**whole, "model": {**whole["model"], name: value}}
    for shape in (
        [],
        [3],
        [3, 0, 8, 8],
        [3, -4, 8, 8],
        [HUGE] * 4,
        [60_000] * 4,
        [3, 4, 8, 9],
        None,
    ):
        yield f"clip_shape={shape}", {**whole, "clip_shape": shape}
    for stage in ({}, None, {"level": 99, "frames": 4, "resolution": 8, "batch_size": 1}):
        yield f"stage={stage}", {**whole, "stage": stage}
    for number in (-1, 5, HUGE, "x", None, 60_000):
        yield f"num_classes={number}", {**whole, "num_classes": number}
    for fps in (0, -1, "x", None, float("nan"), float("inf")):
        yield f"fps={fps}", {**whole, "fps": fps}
    for names in ([1], ["a"], "abc", None, ["x"] * 100_000):
        yield f"class_names={str(names)[:9]}", {**whole, "class_names": names}
    for schema in (None, "x", HUGE, -1, [], float("inf")):
        yield f"schema={schema}", {**whole, "schema": schema}
    yield "more", {**whole, "more": 1}
    yield "no model", {key: value for key, value in whole.items() if key != "model"}
    yield "a nested model", {**whole, "model": {"name": {"name": "pvgan"}}}


def as_json(value: Any) -> str:
    """JSON as hostile writers make it, NaN included."""
    return json.dumps(value)
