"""vidgan: train, sample and fairly compare generative adversarial networks for video.

The names below are the public face; everything else is reached by its module. They are looked up
when first used, so that importing vidgan loads neither torch nor a codec.
"""

import sys

_is_main = sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].removeprefix("-m") == "vidgan"
if _is_main and not sys.flags.safe_path:
    # `python -m vidgan` (the form for torchrun) put the working directory first on the path, and
    # its files before the standard library. This module is imported before anything else is.
    del sys.path[0]

from importlib import import_module  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from vidgan.core import code_version  # noqa: E402

if TYPE_CHECKING:
    from vidgan.data.dataset import open_dataset
    from vidgan.evaluation.clips import EvaluationOptions
    from vidgan.evaluation.generators import evaluate
    from vidgan.metrics.frechet import frechet_distance, inception_score
    from vidgan.models import build_gan, list_models
    from vidgan.sampling.generate import interpolate, sample_clips, sample_latents
    from vidgan.sampling.outputs import save_video
    from vidgan.sampling.predict import predict
    from vidgan.sampling.storage import class_names, load_generator
    from vidgan.sharing.export import export
    from vidgan.sharing.hub import from_pretrained, push_to_hub, save_pretrained
    from vidgan.sharing.project import project
    from vidgan.training.loop import train
    from vidgan.training.presets import list_presets, load_config

__version__ = code_version.VERSION

_HOMES = {
    "EvaluationOptions": "vidgan.evaluation.clips",
    "build_gan": "vidgan.models",
    "class_names": "vidgan.sampling.storage",
    "evaluate": "vidgan.evaluation.generators",
    "export": "vidgan.sharing.export",
    "frechet_distance": "vidgan.metrics.frechet",
    "inception_score": "vidgan.metrics.frechet",
    "from_pretrained": "vidgan.sharing.hub",
    "interpolate": "vidgan.sampling.generate",
    "list_models": "vidgan.models",
    "list_presets": "vidgan.training.presets",
    "load_config": "vidgan.training.presets",
    "load_generator": "vidgan.sampling.storage",
    "open_dataset": "vidgan.data.dataset",
    "predict": "vidgan.sampling.predict",
    "project": "vidgan.sharing.project",
    "push_to_hub": "vidgan.sharing.hub",
    "sample_clips": "vidgan.sampling.generate",
    "sample_latents": "vidgan.sampling.generate",
    "save_pretrained": "vidgan.sharing.hub",
    "save_video": "vidgan.sampling.outputs",
    "train": "vidgan.training.loop",
}

__all__ = [
    "EvaluationOptions",
    "build_gan",
    "class_names",
    "evaluate",
    "export",
    "frechet_distance",
    "inception_score",
    "from_pretrained",
    "interpolate",
    "list_models",
    "list_presets",
    "load_config",
    "load_generator",
    "open_dataset",
    "predict",
    "project",
    "push_to_hub",
    "sample_clips",
    "sample_latents",
    "save_pretrained",
    "save_video",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vidgan' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
