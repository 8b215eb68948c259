"""Opening untrusted images: the only place where Pillow reads bytes.

Pillow looks at the bytes and not at the name, and knows forty formats; one of them (EPS) starts
Ghostscript, others hold programs or point at other files. Six formats are opened here and no other.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vidgan.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""Formats that are opened, whatever the file's name."""

MAX_PIXELS = 1 << 27
"""Pixels of an image or frame (16,384 x 8,192). A header of a few bytes may ask for hundreds of
times more memory."""


class ImageError(UserError):
    """Bytes are not an image in a supported format, or are damaged."""


@contextmanager
def open_image(source: str | Path | bytes) -> Iterator["Image"]:
    """Open an image of `FORMATS`; its pixels are decoded when they are first used.

    Whatever Pillow raises inside the `with` block leaves it as a `ImageError`.

    Args:
        source: a file, or the bytes of one.

    Raises:
        ImageError: it is none of `FORMATS`, damaged, or has more pixels than `MAX_PIXELS`.
    """
    from PIL import Image, UnidentifiedImageError

    name = "the image" if isinstance(source, bytes) else str(source)
    try:
        # Pillow warns of large images, of which there are none above the limit, and of damage.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(_stream(source), "r", FORMATS) as p,
        ):
            if p.width * p.height > MAX_PIXELS:
                raise _too_large(name)
            yield p
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image of {', '.join(FORMATS)}") from error
    except OSError as error:
        # Pillow's own, of cut off images, come without a number of the system.
        reason = error.strerror or f"is a damaged image: {error}"
        raise ImageError(f"{name}: {reason}") from error
    except Exception as error:
        # Decoders raise arbitrary errors for hostile bytes.
        raise ImageError(f"{name} is a damaged image ({type(error).__name__})") from error


def _stream(source: str | Path | bytes) -> "io.BytesIO | str | Path":
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if Path(source).exists() and not Path(source).is_file():
        # Opening a named pipe would block until something writes to it.
        raise ImageError(f"{source} is not a file")
    return source


def _too_large(name: str) -> ImageError:
    return ImageError(f"{name} has more than {MAX_PIXELS:,} pixels: make it smaller")
