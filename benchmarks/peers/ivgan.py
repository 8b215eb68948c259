"""iVGAN beside its authors' TensorFlow code: generation, and inpainting.

Widths are a sixteenth of the published ones. Both take one critic update and one generator update.
"""

from collections import deque
from pathlib import Path
from typing import Any

import torch
from beside import (
    Moves,
    Row,
    batch_of,
    difference,
    gradients,
    imports_from,
    preset,
    stand_ins,
    training_step,
)
from tensorflow_1 import assign, in_float64, run, start_variables, tensorflow
from torch import Tensor, nn

from vidgan.models.base import GAN, ClipShape
from vidgan.models.parts.norms import LayerNorm
from vidgan.training.step import TrainingStep, UpdateKey

CLIPS, WIDTH = 2, 4
SHAPE = ClipShape(3, 32, 64, 64)
START = 8 * WIDTH * 2 * 4 * 4
"""Features that a latent becomes: channels, frames, rows and columns."""
NARROW = {
    "512": str(8 * WIDTH),
    "8, 256]": f"8, {4 * WIDTH}]",
    "fg_h1, 256": f"fg_h1, {4 * WIDTH}",
    "16, 128]": f"16, {2 * WIDTH}]",
    "fg_h2, 128": f"fg_h2, {2 * WIDTH}",
    "32, 64]": f"32, {WIDTH}]",
    "fg_h3, 64": f"fg_h3, {WIDTH}",
    "initial_dim = 64": f"initial_dim = {WIDTH}",
}
ENCODER = {
    "np.multiply": "tf.multiply",  # NumPy takes no tensor of a graph any more
    "masked_video, 3, 64": f"masked_video, 3, {WIDTH}",
    "en_h0, 64, 128": f"en_h0, {WIDTH}, {2 * WIDTH}",
    "en_h1, 128, 256": f"en_h1, {2 * WIDTH}, {4 * WIDTH}",
    f"en_h2, 256, {8 * WIDTH}": f"en_h2, {4 * WIDTH}, {8 * WIDTH}",
}
LAYER_NORM_EPS = 1e-12
"""Theirs; ours is 1e-5."""
LAYER_NORM = (
    "layer norm has epsilon 1e-5 here, as in torch, and 1e-12 there (set so for this row and those "
    "below)"
)
SECOND_DERIVATIVES = (
    "TensorFlow's moments hold the mean within the variance fixed, so that the gradient of the "
    "penalty lacks a term there, up to 4e-4 of the largest number (given without)"
)
FIRST_STEP = {"beta2=0.999": "beta2=0.999, epsilon=1e-8 * (1 - 0.999) ** 0.5"}
"""TensorFlow adds epsilon before it corrects the second moment, torch after: given alike."""


def compare(folder: Path) -> list[Row]:
    """Rows of the table, given the folder of bernhard2202/improved-video-gan."""
    return [*beside(folder, "generate"), *beside(folder, "inpaint"), *REMARKS]


REMARKS = [
    Row("latents", None, "standard normal in both"),
    Row(
        "running statistics of batch norm",
        None,
        "theirs are never read: it samples with those of a batch, as the presets do",
    ),
]


def beside(folder: Path, task: str) -> list[Row]:
    """Outputs, losses, gradients and a whole step of one task."""
    words = ["training.discriminator_steps=1", f"model.width={WIDTH}"]
    words += [f"training.{n}.betas=[0.5,0.999]" for n in ("generator", "discriminator")]
    if task == "inpaint":
        words.append("model.damage=box")
    name = {"generate": "ivgan-golf-64x32", "inpaint": "ivgan-inpaint-golf-64x32"}[task]
    config = preset(f"paper/{name}", *words)
    gan = config.model.build(SHAPE)
    for layer in gan.discriminators["discriminator"].modules():
        if isinstance(layer, LayerNorm):
            layer.eps = LAYER_NORM_EPS
    with torch.no_grad():
        for network in gan.networks.values():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    step, draws = training_step(config, gan), deque[Tensor]()
    real = torch.rand(CLIPS, *SHAPE) * 2 - 1
    batch, keys = batch_of(real), [UpdateKey(step.seed), UpdateKey(step.seed, fresh=True)]
    share = step.random(batch, keys[0], "penalty", "discriminator", "gradient_penalty").uniform()
    draws.append(share.double()[:, None])
    with tensorflow(draws) as tf:
        model = their_model(tf, folder, task, real)
        start_variables()
        pairs = pair_up(gan, model)
        rows = [
            numbers(step, model, pairs, real, keys),
            [whole_step(step, model, pairs, real, keys)],
        ]
    return [Row(f"{task}: {row.aspect}", row.difference, row.deliberate) for r in rows for row in r]


def their_model(tf: Any, folder: Path, task: str, real: Tensor) -> Any:
    """Their model with both of its updates, fed with our clips."""
    file = {"generate": "improved_video_gan", "inpaint": "improved_video_gan_inpaint"}[task]
    narrow = {**NARROW, **(ENCODER if task == "inpaint" else {}), **FIRST_STEP}
    given = {"tensorflow": tf, **stand_ins("utils", "utils.utils", "utils.layers")}
    vars(given["utils.utils"]).update(sampleBatch=lambda *a: None, saveGIFBatch=None)
    with imports_from(folder, given):
        layers = in_float64(folder / "utils" / "layers.py", {})
        vars(given["utils.layers"]).update(vars(layers))
        module = in_float64(folder / "model" / f"{file}.py", narrow)
    names = [n for n in vars(module) if n.startswith("ImprovedVideoGAN")]
    clips = tf.constant(channels_last(real).numpy())
    return getattr(module, names[0])(clips, batch_size=CLIPS, learning_rate=2e-4)


def channels_last(clip: Tensor) -> Tensor:
    return clip.permute(0, 2, 3, 4, 1)


def as_ours(theirs: Tensor, ours: Tensor) -> Tensor:
    """Weights of theirs in our order of axes: channels come before time and space."""
    if theirs.dim() == 5:
        return theirs.permute(4, 3, 0, 1, 2)
    if len(ours) == START:  # of the layer that makes features of latents
        by_place = theirs.reshape(-1, 2, 4, 4, 8 * WIDTH)
        return by_place.permute(4, 1, 2, 3, 0).reshape(ours.shape)
    return theirs.t() if theirs.dim() == 2 else theirs


def as_theirs(ours: Tensor) -> Tensor:
    """The reverse."""
    if ours.dim() == 5:
        return ours.permute(2, 3, 4, 1, 0)
    if len(ours) == START:
        by_channel = ours.reshape(8 * WIDTH, 2, 4, 4, -1)
        return by_channel.permute(4, 1, 2, 3, 0).flatten(1)
    return ours.t() if ours.dim() == 2 else ours


def pair_up(gan: GAN, model: Any) -> dict[str, list[tuple[Tensor, Any]]]:
    """Our parameters and their variables, after ours were given to theirs."""
    generator: Any = gan.generator
    critic: Any = gan.discriminators["discriminator"]
    layers = {
        "generator": [
            *start_layers(generator.start),
            *alternating(generator.convs, generator.norms),
            generator.to_rgb,
        ],
        "critic": [*alternating(critic.convs, critic.norms), critic.last, critic.to_score],
    }
    variables = {"generator": model.generator_variables, "critic": model.discriminator_variables}
    pairs: dict[str, list[tuple[Tensor, Any]]] = {}
    for name, own in layers.items():
        mine = [p for layer in own for p in layer.parameters(recurse=False)]
        theirs = in_order([v for v in variables[name] if "_init" not in v.name])
        pairs[name] = list(zip(mine, theirs, strict=True))
        assign({variable: as_theirs(parameter.detach()) for parameter, variable in pairs[name]})
    return pairs


def start_layers(start: Any) -> list[nn.Module]:
    """What makes features of a latent, or of a damaged clip."""
    if hasattr(start, "linear"):
        return [start.linear, start.norm]
    return alternating(start.convs, start.norms)


def alternating(convs: Any, norms: Any) -> list[nn.Module]:
    return [layer for pair in zip(convs, norms, strict=True) for layer in pair]


def in_order(variables: list[Any]) -> list[Any]:
    """Theirs in the order of ours: weight before bias, factor before offset."""
    rank = {"filters": 0, "Matrix": 0, "gamma": 0, "biases": 1, "bias": 1, "beta": 1}
    scopes = list(dict.fromkeys(v.name.rpartition("/")[0] for v in variables))
    return sorted(
        variables,
        key=lambda v: (scopes.index(v.name.rpartition("/")[0]), rank[v.op.name.rpartition("/")[2]]),
    )


def feed(model: Any, step: TrainingStep, real: Tensor, key: UpdateKey) -> dict[Any, Any]:
    """What theirs is fed with for an update: our latents, or the clips that it damages."""
    if hasattr(model, "z_vec"):
        size = step.gan.generator.latent_dim()
        latent = step.random(batch_of(real), key, "latent").normal(size).double()
        return {model.z_vec: latent.numpy()}
    return {model.input_images: channels_last(real).numpy()}


def numbers(
    step: TrainingStep,
    model: Any,
    pairs: dict[str, list[tuple[Tensor, Any]]],
    real: Tensor,
    keys: list[UpdateKey],
) -> list[Row]:
    """Outputs, losses and gradients, all of the critic's update and its latents."""
    import tensorflow.compat.v1 as tf

    (batch,) = step.split(batch_of(real), keys[0])
    parts = step.generate(batch, keys[0])
    critic = step.gan.discriminators["discriminator"]
    scores = [critic(clip).realness for clip in (batch.real, parts["clip"])]
    loss, _ = step.discriminator_loss(batch, parts, keys[0], 0)
    loss_g, _ = step.generator_loss(batch, parts, keys[0])
    slopes = [
        tf.gradients(cost, [variable for _, variable in pairs[name]])
        for cost, name in ((model.d_cost_final, "critic"), (model.g_cost, "generator"))
    ]
    wanted = [
        model.videos_fake,
        [model.d_real, model.d_fake],
        [model.d_cost_final, model.g_cost],
        slopes,
    ]
    fake, scores_theirs, losses, slopes = run(wanted, feed(model, step, real, keys[0]))
    found = []
    for name, own, given in (("critic", loss, slopes[0]), ("generator", loss_g, slopes[1])):
        reached = gradients(own, [mine for mine, _ in pairs[name]])
        found.append(difference(reached, map(as_ours, given, reached)))
    return [
        Row("generator, output", difference([parts["clip"]], [fake.permute(0, 4, 1, 2, 3)])),
        Row("discriminator, output", difference(scores, scores_theirs), LAYER_NORM),
        Row("losses", difference([loss, loss_g], losses)),
        Row("gradients of both networks", max(found), SECOND_DERIVATIVES),
    ]


def whole_step(
    step: TrainingStep,
    model: Any,
    pairs: dict[str, list[tuple[Tensor, Any]]],
    real: Tensor,
    keys: list[UpdateKey],
) -> Row:
    """One critic and one generator update, by `train` of theirs."""
    import tensorflow.compat.v1 as tf

    silent = silent_biases(step.gan.generator)
    joined = [pair for name in pairs for pair in pairs[name] if id(pair[0]) not in silent]
    moves = Moves([(mine, mine.detach().clone()) for mine, _ in joined])
    step.run(0, 0, lambda: batch_of(real))
    fed = [feed(model, step, real, key) for key in keys]
    model.critic_iterations = 1
    model.get_feed_dict = lambda *session: fed.pop(0)
    model.train(tf.get_default_session(), 0)
    after = run([variable for _, variable in joined])
    moves.pairs = [
        (mine, as_ours(value, mine)) for (mine, _), value in zip(joined, after, strict=True)
    ]
    return Row(
        "one whole step of their `train` (Adam)",
        moves.difference(),
        "one critic update for each of the generator's, five and four in the recipes; Adam's "
        "epsilon counts more in a first step there (given alike); without the biases before batch "
        "norm, whose gradients are rounding alone",
    )


def silent_biases(generator: Any) -> set[int]:
    """Identities of the biases that batch norm takes out again."""
    layers = [*start_layers(generator.start), *generator.convs]
    return {id(layer.bias) for layer in layers if isinstance(layer.weight, Tensor)}
