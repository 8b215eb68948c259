"""The registry of models. A model is one file; this table is the only other place that names it."""

import os

import torch

from vidgan.core.plugins import Registry, trust_typed
from vidgan.core.settings import Variants
from vidgan.errors import UserError
from vidgan.models.base import GAN, ClipShape, ModelConfig

MODELS = {
    "dvdgan": "vidgan.models.dvdgan:DVDGANConfig",
    "dvdgan_fp": "vidgan.models.dvdgan_fp:DVDGANFPConfig",
    "hrvgan": "vidgan.models.hrvgan:HRVGANConfig",
    "hrvgan_repo": "vidgan.models.hrvgan:HRVGANRepoConfig",
    "pvgan": "vidgan.models.pvgan:ProgressiveConfig",
    "vgan": "vidgan.models.vgan:VGANConfig",
    "ivgan": "vidgan.models.ivgan:IVGANConfig",
    "tgan": "vidgan.models.tgan:TGANConfig",
    "mocogan": "vidgan.models.mocogan:MoCoGANConfig",
    "pocketgan": "vidgan.models.pocketgan:PocketConfig",
}
"""Name to `module:ConfigClass`; third parties add theirs by the entry point `vidgan.models`."""


_REGISTRY = Registry("model", "model.name", "vidgan.models", MODELS)


def list_models() -> list[str]:
    """Names of all models, ours and those of installed plug-ins."""
    return _REGISTRY.names()


def model_config_class(name: str) -> type[ModelConfig]:
    """The settings class of a model, by name; see `vidgan.core.plugins` for `package.module:Class`.

    Raises:
        UserError: no such model, or only a file asks for its code.
    """
    found = _REGISTRY.find(name)
    if not issubclass(found, ModelConfig) or found is ModelConfig:
        raise UserError(f"model.name={name} is not a subclass of vidgan.models.base.ModelConfig")
    return found


def model_name(cls: type[ModelConfig]) -> str:
    """The name under which `model_config_class` finds a settings class again."""
    return _REGISTRY.name_of(cls)


MODEL_VARIANTS = Variants(base=ModelConfig, class_of=model_config_class, name_of=model_name)
"""How settings with a field of type `ModelConfig` are written and read back."""


def outline_gan(config: ModelConfig, clip_shape: ClipShape, num_classes: int, where: str) -> GAN:
    """The networks on the meta device, to check shapes before allocating memory.

    Args:
        config: settings, possibly from an untrusted file.
        clip_shape: of a fully grown clip.
        num_classes: 0 for unlabelled data.
        where: what messages call the source of the settings.

    Raises:
        UserError: the networks cannot be built.
    """
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            return config.build(clip_shape, num_classes)
    except UserError:
        raise
    except Exception as error:
        # Models raise arbitrary errors for settings that exclude each other.
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where} describes networks that cannot be built ({reason})") from error


def refuse_larger_than_memory(config: ModelConfig, shape: ClipShape, num_classes: int) -> None:
    """Raise UserError if the parameters alone need more memory than the machine has."""
    if not hasattr(os, "sysconf"):
        return  # unknown on Windows
    gan = outline_gan(config, shape, num_classes, "model")
    needed = sum(
        parameter.numel() * parameter.element_size()
        for network in gan.networks.values()
        for parameter in network.parameters()
    )
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UserError(
            f"the networks have {needed / 2**30:,.0f} GiB of parameters and this machine "
            f"{there / 2**30:,.0f} GiB of memory: lower the widths of model"
        )


def build_gan(
    model: str | ModelConfig, clip_shape: tuple[int, int, int, int], num_classes: int = 0
) -> GAN:
    """Build a model with freshly initialised parameters.

    Args:
        model: a name of `list_models()` or `package.module:Class` (default settings), or a
            settings object.
        clip_shape: (C, T, H, W).
        num_classes: 0 for unlabelled data.

    Raises:
        UserError: no such model, or it cannot make clips of this shape.

    Example:
        >>> gan = build_gan("pvgan", (3, 8, 16, 16))
        >>> gan.generator.latent_dim()
        128
    """
    trust_typed(model)
    config = model_config_class(model)() if isinstance(model, str) else model
    if len(clip_shape) != len(ClipShape._fields):
        raise UserError(f"the shape of a clip is (C, T, H, W), and {tuple(clip_shape)} is none")
    return config.build(ClipShape(*clip_shape), num_classes)
