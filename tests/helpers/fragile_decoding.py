"""A decoder that some files kill or stop, for worker processes, which start quickly with it."""

import os
import time

from vidgan.data.build.encode import EncodedClip, EncodeJob, Rejected, encode_video


def fragile(job: EncodeJob) -> EncodedClip | Rejected:
    """`encode_video`, with files that do to their process what a broken decoder would."""
    name = job.source.path.name
    if name.startswith("kills"):
        os.abort()
    if name.startswith("hangs"):
        time.sleep(600)
    return encode_video(job)
