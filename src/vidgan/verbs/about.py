"""Verbs that tell about the installation: `models` and `doctor`."""

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from vidgan.verbs.output import in_words, print_json

EXTRA_PACKAGES = ("scipy", "sklearn", "tensorboard", "wandb", "litdata", "ray", "huggingface_hub")


def models(*, json: bool = False) -> None:
    """List the models that can be trained.

    Args:
        json: print a JSON list.
    """
    from vidgan.models import list_models, model_config_class

    found = [
        {"name": name, "about": (model_config_class(name).__doc__ or "").partition("\n")[0]}
        for name in list_models()
    ]
    if json:
        print_json(found)
        return
    for model in found:
        print(f"{model['name']:<12}{model['about']}")


def doctor(*, json: bool = False) -> None:
    """Show what this machine offers and what is missing.

    Args:
        json: print a JSON document, the form to put into a report of a problem.
    """
    facts = examine()
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        shown = ", ".join(map(in_words, value)) if isinstance(value, list) else in_words(value)
        print(f"{name.replace('_', ' '):<22}{shown}")


def examine() -> dict[str, Any]:
    """Versions, devices, codecs and room on the disk, as plain values."""
    import av
    import numpy
    import torch

    from vidgan import __version__

    codecs = av.codecs_available
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    problems = []
    if "libx264" not in codecs:
        problems.append("no H.264 encoder: MP4 files cannot be written")
    return {
        "vidgan": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "pyav": av.__version__,
        "devices": [*devices, "cpu"],
        "cpu_cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "bf16_on_gpu": torch.cuda.is_bf16_supported() if devices else None,
        "h264_encoder": "libx264" in codecs,
        "h264_decoder": "h264" in codecs,
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "optional_packages": [name for name in EXTRA_PACKAGES if importlib.util.find_spec(name)],
        "executable": sys.executable,
        "problems": problems,
    }
