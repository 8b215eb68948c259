"""The videos of an archive: video files, numbered images, and the samples of WebDataset shards.

WebDataset stores the parts of a sample side by side: `KEY.mp4`, `KEY.cls`, `KEY.json`, where the
key ends at the first dot of the file name. A class in a sidecar overrides the folder.
"""

import json
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidgan.data.settings import SPLITS
from vidgan.data.sources.containers.archive import Archive, open_archive
from vidgan.data.sources.containers.arrays import clip_frames, find_axes, find_scale, read_npy
from vidgan.data.sources.containers.items import (
    Content,
    Frames,
    Images,
    VideoBytes,
    name_classes,
)
from vidgan.data.sources.source import Scan, Source
from vidgan.data.sources.tree import VIDEO_SUFFIXES
from vidgan.errors import UserError, printable
from vidgan.video import UnreadableVideoError
from vidgan.video.sequences import IMAGE_SUFFIXES, SameNumberError, find_sequences

_SIDECARS = ("cls", "json")
_SIDECAR_BYTES = 1 << 20
_MAX_FPS = 1000
_CLASS_KEYS = ("class_name", "label_name", "class", "label", "category", "cls")


def list_archive(path: Path) -> Scan:
    """List the videos of a zip or tar archive.

    Raises:
        UserError: it cannot be read, is beyond the limits, or holds no video.
    """
    archive = open_archive(path)
    parts = _parts(archive)
    if not parts.videos:
        dropped = (*archive.dropped, *parts.dropped)
        first = next(iter(dropped), None)
        more = f" and {len(dropped)} that are not read" if first else ""
        why = f" (the first one, {printable(first[0])}, {first[1]})" if first else ""
        raise UserError(
            f"{path} holds no videos, only {parts.num_others} other files{more}{why}: name an"
            " archive of video files, of folders of numbered images, or WebDataset shards"
        )
    infos = {address: _sidecar(archive, parts, key) for address, key in parts.videos.items()}
    labels = {address: _label(info) for address, info in infos.items()}
    known = [label for label in labels.values() if label is not None]
    names = dict(zip(known, name_classes(known, None), strict=True))
    sources = [
        Source(
            name=printable(address.rstrip("/.")),
            path=path,
            kind="item",
            member=address,
            folder=address.rstrip("/").rpartition("/")[0],
            class_name=None if (label := labels[address]) is None else names[label],
            split=split if (split := infos[address].get("split")) in SPLITS else "",
            group=group if isinstance(group := infos[address].get("group"), str) else None,
        )
        for address in sorted(parts.videos)
    ]
    is_shard = bool(known) and not path.name.lower().endswith(".zip")
    kind = "zip" if path.name.lower().endswith(".zip") else "tar"
    what = "a WebDataset shard" if is_shard else f"a {kind} archive"
    notes = list(archive.notes)
    if parts.several:
        notes.append(
            f"{len(parts.several)} folders hold more than one sequence of images"
            f" ({printable(parts.several[0])} first): each sequence is read as a video"
        )
    if parts.num_others:
        notes.append(f"{parts.num_others} files that are not videos were ignored")
    dropped = (*archive.dropped, *parts.dropped)
    return Scan(root=path, what=what, sources=sources, dropped=dropped, notes=notes)


def read_archive_item(path: Path, member: str) -> Content:
    """The contents of a source of `list_archive`.

    Raises:
        UnreadableVideoError: it is damaged.
    """
    archive = open_archive(path)
    parts = _parts(archive)
    if member not in parts.images and not member.lower().endswith(".npy"):
        return VideoBytes(archive.read(member), f".{member.rpartition('.')[2].lower()}")
    fps = _sidecar(archive, parts, parts.videos.get(member, "")).get("fps")
    fps = float(fps) if isinstance(fps, int | float) and 0 < fps < _MAX_FPS else None
    if member in parts.images:
        return Images(tuple(archive.read(name) for name in parts.images[member]), fps)
    data = archive.read(member)
    try:
        array = read_npy(data, path)
        where = f"{path} ({printable(member)})"
        axes = find_axes(array.shape, "auto", where)
        if "N" in axes:
            raise UserError(f"{where} holds several videos: store one per sample")
        return Frames(clip_frames(array, 0, axes, find_scale(array, where)), fps)
    except UserError as error:
        raise UnreadableVideoError(path, str(error)) from error


class _Parts:
    """What the members of an archive are.

    Attributes:
        videos: address of each video to the key of its sidecars. The address is a member, or the
            start of the names of its images: a folder and `/`, or a key and `.`, and behind that
            the pattern of the names if there are several sequences.
        images: members of the videos that consist of images, in the order of their numbers.
        sidecars: members that may say more about a key, by key and suffix.
        several: folders and keys with several sequences of images.
        dropped: folders and keys whose images cannot be put in order, and why.
        num_others: other members, hidden ones left out.
    """

    def __init__(self, archive: Archive) -> None:
        self.videos: dict[str, str] = {}
        self.images: dict[str, list[str]] = {}
        self.sidecars: dict[tuple[str, str], str] = {}
        self.several: list[str] = []
        self.dropped: list[tuple[str, str]] = []
        self.num_others = 0
        by_key: dict[str, list[str]] = defaultdict(list)
        by_folder: dict[str, list[str]] = defaultdict(list)
        for name in archive.members:
            folder, key, suffix = _split_name(name)
            if any(part.startswith((".", "__MACOSX")) for part in name.split("/")):
                continue
            last = f".{suffix.rpartition('.')[2]}"
            is_empty = archive.members[name].size == 0
            if is_empty and (last in VIDEO_SUFFIXES or last == ".npy"):
                # Opening each of very many would take minutes.
                self.dropped.append((printable(name), "the file is empty"))
            elif last in VIDEO_SUFFIXES or last == ".npy":
                self.videos[name] = key
            elif last in IMAGE_SUFFIXES:
                if re.search("[0-9].*[.]", suffix):
                    by_key[f"{key}."].append(name)
                by_folder[f"{folder}/"].append(name)
            elif suffix in _SIDECARS:
                self.sidecars[key, suffix] = name
            else:
                self.num_others += 1
        self._group_images(by_key, by_folder)
        keys = set(self.videos.values())
        self.num_others += sum(key not in keys for key, _ in self.sidecars)

    def _group_images(self, by_key: dict[str, list[str]], by_folder: dict[str, list[str]]) -> None:
        has_video = {f"{name.rpartition('/')[0]}/" for name in self.videos}
        samples = {start: names for start, names in by_key.items() if len(names) > 1}
        for start, names in (samples or by_folder).items():
            if samples or start not in has_video:
                self._find_sequences(start, names)
        self.num_others += sum(map(len, by_folder.values()))
        self.num_others -= sum(map(len, self.images.values()))

    def _find_sequences(self, start: str, names: list[str]) -> None:
        folder, slash, _ = names[0].rpartition("/")
        try:
            found = find_sequences(name.rpartition("/")[2] for name in names)
        except SameNumberError as error:
            self.dropped.append((printable(start.rstrip("/.")), str(error)))
            return
        for sequence in found:
            address = start if len(found) == 1 else folder + slash + sequence.pattern
            self.images[address] = [folder + slash + name for name in sequence.names]
            self.videos[address] = address.rstrip("/.")
        if len(found) > 1:
            self.several.append(start.rstrip("/.") or ".")


@lru_cache(maxsize=4)
def _parts(archive: Archive) -> _Parts:
    return _Parts(archive)


def _split_name(name: str) -> tuple[str, str, str]:
    """Folder, key (with the folder) and suffix (without its dot, in lower case) of a member."""
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder, f"{folder}/{stem}".lstrip("/"), suffix.lower()


def _sidecar(archive: Archive, parts: _Parts, key: str) -> dict[str, Any]:
    """Sidecars of a key's videos; damaged ones are ignored."""
    info: dict[str, Any] = {}
    for suffix in _SIDECARS:
        name = parts.sidecars.get((key, suffix))
        if name is None:
            continue
        try:
            text = archive.read(name, _SIDECAR_BYTES).decode("utf-8").strip()
            value = json.loads(text) if suffix == "json" else text
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            info |= value
        elif suffix == "cls":
            info["cls"] = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text
    return info


def _label(info: dict[str, Any]) -> int | str | None:
    for key in _CLASS_KEYS:
        value = info.get(key)
        if isinstance(value, str) and value.strip():
            return printable(value.strip())
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
