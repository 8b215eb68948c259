"""Video files in and out; the public names of `reading` and `writing`.

Both go through PyAV, whose wheel carries its own FFmpeg, and through Pillow for images. The two
are imported where they are used, and so is torch: importing this module loads none of them.
"""

from vidgan.video.frames import (
    CorruptVideoError,
    DecodedFrames,
    NoVideoStreamError,
    ResizePolicy,
    UnreadableVideoError,
    VideoError,
    VideoInfo,
    is_image_folder,
)
from vidgan.video.reading import FrameStream, probe, read_frames
from vidgan.video.writing import (
    frame_strip,
    mp4_bytes,
    png_bytes,
    tile_clips,
    told_left_out,
    write_gif,
    write_mp4,
    write_png,
    write_webp,
)

__all__ = [
    "CorruptVideoError",
    "DecodedFrames",
    "FrameStream",
    "NoVideoStreamError",
    "ResizePolicy",
    "UnreadableVideoError",
    "VideoError",
    "VideoInfo",
    "frame_strip",
    "is_image_folder",
    "mp4_bytes",
    "png_bytes",
    "probe",
    "read_frames",
    "tile_clips",
    "told_left_out",
    "write_gif",
    "write_mp4",
    "write_png",
    "write_webp",
]
