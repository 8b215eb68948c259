"""Every model by name. A model is one file; this table is the only other place that knows it."""

import importlib
from importlib.metadata import entry_points

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
}
"""Name to `module:ConfigClass`; third parties add theirs by the entry point `vidgan.models`."""


def list_models() -> list[str]:
    """Names of all models, ours and those of installed plug-ins."""
    return sorted({*MODELS, *(point.name for point in entry_points(group="vidgan.models"))})


def model_config_class(name: str) -> type[ModelConfig]:
    """The settings class of a model, by name or as `package.module:Class`.

    Raises:
        UserError: no such model.
    """
    plugins = {point.name: point.value for point in entry_points(group="vidgan.models")}
    target = MODELS.get(name) or plugins.get(name) or (name if ":" in name else None)
    if target is None:
        raise UserError(f"there is no model {name!r}; choose one of {', '.join(list_models())}")
    module_name, _, class_name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"model.name={name} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, ModelConfig)):
        raise UserError(f"model.name={name} is not a subclass of vidgan.models.base.ModelConfig")
    return found


def model_name(cls: type[ModelConfig]) -> str:
    """The name under which `model_config_class` finds a settings class again."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, known in MODELS.items() if known == target), target)


MODEL_VARIANTS = Variants(base=ModelConfig, class_of=model_config_class, name_of=model_name)
"""How settings with a field of type `ModelConfig` are written and read back."""


def build_gan(
    model: str | ModelConfig, clip_shape: tuple[int, int, int, int], num_classes: int = 0
) -> GAN:
    """Build a model with freshly initialised parameters.

    Args:
        model: a name of `list_models()` (default settings) or a settings object.
        clip_shape: (C, T, H, W).
        num_classes: 0 for unlabelled data.

    Raises:
        UserError: no such model, or it cannot make clips of this shape.

    Example:
        >>> gan = build_gan("pvgan", (3, 8, 16, 16))
        >>> gan.generator.latent_dim()
        128
    """
    config = model_config_class(model)() if isinstance(model, str) else model
    return config.build(ClipShape(*clip_shape), num_classes)
