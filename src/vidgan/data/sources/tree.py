"""One walk over a folder: its videos, folders of numbered images, and other files."""

import os
from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vidgan.core.files import TEMPORARY_MARK, refuse_special
from vidgan.errors import UserError, counted
from vidgan.video.sequences import IMAGE_SUFFIXES, SameNumberError, find_sequences

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"}
    | {".wmv", ".flv", ".ogv", ".3gp", ".gif", ".vob"}
)
_DEEPEST_TABLE = 2
"""Maximum depth of a table that describes the whole set."""
_SHOWN = 3
_OWN_FILES = ("attributes.json", "motions.json")


@dataclass(frozen=True)
class Tree:
    """What a walk found; names are relative to the root, with forward slashes, and sorted.

    Attributes:
        root: the folder, or a single file, of which nothing else is known.
        videos: video files, by their suffix.
        image_folders: folders of numbered images without videos; the root itself, "", only if
            it holds several sequences.
        sequences: the videos that those images make: the name of the folder, or one address for
            each sequence of a folder that holds several, such as `folder/clipA_*`.
        others: other files that are not hidden; images in `image_folders` are not counted.
        unread: name of and reason for every folder that cannot be read or understood.
        misnamed: folders that are called like a video.
    """

    root: Path
    videos: tuple[str, ...] = ()
    image_folders: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
    misnamed: tuple[str, ...] = ()

    def misnamed_without(self, used: Iterable[Path]) -> list[tuple[str, str]]:
        """Name of and reason for every folder called like a video in which none of `used` lies."""
        giving = {folder for path in used for folder in (path, *path.parents)}
        what = "is a folder that is called like a video, and holds none"
        return [(name, what) for name in self.misnamed if self.root / name not in giving]

    @property
    def names(self) -> list[str]:
        """Videos and sequences of numbered images, sorted."""
        return sorted([*self.videos, *self.sequences])

    @cached_property
    def image_folder_set(self) -> frozenset[str]:
        """`image_folders`, for looking up."""
        return frozenset(self.image_folders)

    @cached_property
    def sequence_set(self) -> frozenset[str]:
        """`sequences`, for looking up."""
        return frozenset(self.sequences)

    def told_sequences(self, used: Set[str]) -> list[str]:
        """A sentence about folders that hold several sequences which are used as videos."""
        several = sorted((self.sequence_set - self.image_folder_set) & used)
        if not several:
            return []
        folders = sorted({name.rpartition("/")[0] for name in several})
        of_first = [name for name in several if name.rpartition("/")[0] == folders[0]]
        shown = ", ".join(name.rpartition("/")[2] for name in of_first[:_SHOWN])
        more = f" and {len(of_first) - _SHOWN} more" if len(of_first) > _SHOWN else ""
        also = f", and {len(folders) - 1} other folders do so too" if len(folders) > 1 else ""
        return [
            (
                f"the folder {folders[0] or '.'} holds more than one sequence of images ({shown}"
                f"{more}){also}: each sequence is read as a video; move other images away"
            )
        ]

    def tables(self, suffix: str) -> list[str]:
        """Other files with a suffix, near the root: deeper ones belong to single videos."""
        near = (name for name in self.others if name.count("/") <= _DEEPEST_TABLE)
        found = (name for name in near if _suffix(name) == suffix)
        return [name for name in found if (self.root / name).is_file()]

    def images(self) -> list[str]:
        """All image files, those in `image_folders` too, sorted."""
        inside = (name for folder in self.image_folders for name in self._images_in(folder))
        return sorted([*self._loose_images, *inside])

    def some_images(self, count: int) -> list[str]:
        """About `count` of the images, spread over all, without listing every folder."""
        step = max(1, 2 * len(self._loose_images) // count)
        loose = self._loose_images[::step]
        step = max(1, len(self.image_folders) * 2 // count)
        folders = self.image_folders[::step]
        each = max(1, count // (2 * max(1, len(folders))))
        inside = (name for folder in folders for name in self._images_in(folder)[:each])
        return [*loose, *inside]

    @cached_property
    def _loose_images(self) -> list[str]:
        return [name for name in self.others if _suffix(name) in IMAGE_SUFFIXES]

    def _images_in(self, folder: str) -> list[str]:
        names = (file.name for file in (self.root / folder).iterdir() if file.name[0] != ".")
        place = f"{folder}/" if folder else ""
        return sorted(place + name for name in names if _suffix(name) in IMAGE_SUFFIXES)

    @property
    def strange(self) -> list[str]:
        """The other files, but for those that this package writes itself."""
        return [name for name in self.others if name not in _OWN_FILES]


def look_at(root: Path) -> Tree:
    """Walk over a folder once; links are followed, except in cycles.

    Raises:
        UserError: there is nothing at `root`.
    """
    if root.is_file():
        return Tree(root)
    refuse_special(root)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: name a folder of video files")
    videos: list[str] = []
    image_folders: list[str] = []
    sequences: list[str] = []
    others: list[str] = []
    unread: list[tuple[str, str]] = []
    misnamed: list[str] = []

    def note_unread(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        unread.append((name, f"the folder cannot be read ({error.strerror})"))

    seen: set[Path] = set()
    for folder, subfolders, files in os.walk(root, onerror=note_unread, followlinks=True):
        here = Path(folder)
        if here.resolve() in seen:
            # A link back to a folder above would be walked forever.
            subfolders.clear()
            continue
        seen.add(here.resolve())
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        place = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        misnamed += [place + name for name in subfolders if _is_video(name)]
        here_videos = [name for name in files if _is_video(name)]
        videos += [place + name for name in here_videos]
        known = {*here_videos}
        if not here_videos:
            try:
                found = _sequences_in(place, files)
            except SameNumberError as error:
                unread.append((place.rstrip("/"), str(error)))
                found = []
            if found:
                image_folders.append(place.rstrip("/"))
                sequences += found
                known |= {name for name in files if _suffix(name) in IMAGE_SUFFIXES}
        others += [place + name for name in files if name not in known and name[0] != "."]
    return Tree(
        root,
        tuple(sorted(videos)),
        tuple(sorted(image_folders)),
        tuple(sorted(sequences)),
        tuple(sorted(others)),
        tuple(sorted(unread)),
        tuple(sorted(misnamed)),
    )


def _sequences_in(place: str, files: list[str]) -> list[str]:
    """Addresses of the videos that the images of a folder make.

    One sequence in the root itself is none: those may be strips, or images of anything.
    """
    found = find_sequences(name for name in files if name[0] != ".")
    if len(found) == 1:
        return [place.rstrip("/")] if place else []
    return [place + sequence.pattern for sequence in found]


def list_videos(root: Path) -> list[str]:
    """Names of all videos and folders of numbered images below a folder, sorted.

    Raises:
        UserError: there is none.
    """
    if root.is_file():
        raise UserError(f"{root} is a file: name the folder that holds the videos")
    tree = look_at(root)
    if not tree.names:
        raise no_videos(tree)
    return tree.names


def no_videos(tree: Tree) -> UserError:
    """The error for a folder without usable videos."""
    other = f", only {len(tree.strange)} other files" if tree.strange else ""
    other += f", {len(tree.unread)} folders that cannot be read" if tree.unread else ""
    if tree.misnamed:
        are = "is" if len(tree.misnamed) == 1 else "are"
        other += f", {counted(len(tree.misnamed), 'folder')} that {are} called like a video"
    return UserError(
        f"no videos in {tree.root}{other}: it needs video files"
        f" ({' '.join(sorted(VIDEO_SUFFIXES))}) or folders of numbered images"
    )


def _is_video(name: str) -> bool:
    hidden = name.startswith((".", TEMPORARY_MARK))
    return not hidden and _suffix(name) in VIDEO_SUFFIXES


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()
