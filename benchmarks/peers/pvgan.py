"""Progressive Video GAN beside the authors' TensorFlow code, and its image model beside Karras'.

Three levels to 16 px, 8 channels. Networks for clips run with `fused_scale=False`, where theirs
shrinks after the activation (`conv-act-pool`): the authors' fused convolutions fold time and height
where a level keeps its frames, and cannot be meant so. Those where time doubles or halves are
compared alone. Their images run in the fused form.
"""

import math
import types
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
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
    translated,
)
from tensorflow_1 import assign, in_float64, run, start_variables, tensorflow
from torch import Tensor

from vidgan.core.clip_ops import upsample_clip
from vidgan.models.base import GAN, ClipShape, Stage
from vidgan.models.parts.growth import growth_factors
from vidgan.models.parts.layers import conv3d_pool, upsample_conv3d
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import Config, load_config
from vidgan.training.schedule import stage_at
from vidgan.training.step import Batch, TrainingStep, UpdateKey

CLIPS, WIDTH, SIDE = 4, 8, 16
WORDS = [f"model.latent={WIDTH}", f"model.channel_base={4 * WIDTH}", f"model.channel_max={WIDTH}"]
STAGES = {"last level": (2, 1.0), "a level that fades in": (2, 0.3), "level below": (1, 1.0)}
ADAM = {"beta1": 0.0, "beta2": 0.99, "epsilon": 1e-8 * math.sqrt(1 - 0.99)}
"""Of a first step: TensorFlow adds epsilon before it corrects the second moment, torch after."""


@dataclass(frozen=True)
class Side:
    """What differs between the two repositories.

    Attributes:
        folder: below the clone.
        preset: ours.
        frames: of every level.
        networks: settings of both networks of theirs.
        losses: names of their losses, of the generator's and the discriminator's player.
        penalties: ours, in the order in which theirs draws numbers for them.
    """

    folder: str
    preset: str
    frames: tuple[int, ...]
    networks: Mapping[str, Any]
    losses: tuple[str, str]
    penalties: tuple[str, ...]

    @property
    def has_clips(self) -> bool:
        """Whether it makes clips, with a sliced head, or images."""
        return self.frames[-1] > 1


VIDEO = Side(
    folder="progressive_training",
    preset="paper/pvgan-swgan-256x32",
    frames=(4, 8, 8),
    networks={
        "num_frames": 8,
        "fused_scale": False,
        # What a level is enlarged by to reach the last one's frames, of which there are 8 here.
        "temporal_upscale_map2": {2: 2, 3: 1, 4: 1},
    },
    losses=("G_swgan", "D_swgan"),
    penalties=("input_gradient", "slope"),
)
IMAGE = Side(
    folder=".",
    preset="paper/pvgan-image-celebahq-1024x1",
    frames=(1, 1, 1),
    networks={},
    losses=("G_wgan_acgan", "D_wgangp_acgan"),
    penalties=("gradient_penalty",),
)


def compare_swd(folder: Path) -> list[Row]:
    """Rows of the table, given the folder of musikisomorphie/swd."""
    rows = beside(VIDEO, folder)
    return [*rows, schedule(VIDEO, folder), *VIDEO_REMARKS]


def compare_progressive(folder: Path) -> list[Row]:
    """Rows of the table, given the folder of tkarras/progressive_growing_of_gans."""
    return [*beside(IMAGE, folder), schedule(IMAGE, folder)]


VIDEO_REMARKS = [
    Row(
        "fused convolutions where a level keeps its frames",
        None,
        "theirs folds time and height, not height and width; ours equals the plain form",
    ),
    Row(
        "reals of a level that fades in",
        None,
        "theirs averages pairs of frames too where only the side grows; ours along growing axes",
    ),
]


# ------------------------------------------------------------------------------------------------
# Their code


@contextmanager
def their_code(side: Side, folder: Path, draws: "deque[Tensor]") -> Iterator[SimpleNamespace]:
    """A block with their modules and networks, whose variables are at their initial values."""
    place = folder / side.folder
    with tensorflow(draws) as tf:
        given: dict[str, types.ModuleType] = {"tensorflow": tf}
        for name in ("tfutil", "networks", "loss"):
            with imports_from(place, given):
                given[name] = in_float64(place / f"{name}.py", {})
        with imports_from(place, given):
            yield SimpleNamespace(**given, **their_networks(given["tfutil"], side))


def their_networks(tfutil: Any, side: Side) -> dict[str, Any]:
    """Generator `G`, discriminator `D`, and the sliced head `R` of clips."""
    settings = {
        "num_channels": 3,
        "resolution": SIDE,
        "label_size": 0,
        "fmap_base": 4 * WIDTH,
        "fmap_max": WIDTH,
        **side.networks,
    }
    found = {n: tfutil.Network(n, f"networks.{n}_paper", **settings) for n in "GD"}
    if side.has_clips:
        found["R"] = tfutil.Network("R", "networks.DualSWD", dim=WIDTH)
    return found


def variables_of(code: SimpleNamespace) -> dict[tuple[str, str], Any]:
    """Their variables, by network and name."""
    names = [name for name in "GDR" if hasattr(code, name)]
    return {
        (name, local): variable
        for name in names
        for local, variable in getattr(code, name).trainables.items()
    }


def our_parameter(gan: GAN, network: str, name: str) -> Tensor:
    """The parameter of ours that stands for a variable of theirs."""
    generator: Any = gan.generator
    discriminator: Any = gan.discriminators["discriminator"]
    if network == "R":
        names = {"proj": "projections", "offset": "offsets", "scale": "slopes"}
        return getattr(discriminator.head, names[name.rsplit(".", 1)[1]])
    own = generator if network == "G" else discriminator
    scope, *inner, what = name.split("/")
    if "_lod" in scope:
        colours = own.to_rgb if network == "G" else own.from_rgb
        return getattr(colours[-1 - int(scope.rpartition("lod")[2])], what)
    block = own.blocks[int(math.log2(int(scope.split("x")[0]))) - 2]
    if inner[0] == "Dense":
        return block.linear.weight if what == "weight" else block.bias
    layers = {
        "Conv": lambda: block.conv,
        "Dense0": lambda: block.linear,
        "Dense1": lambda: own.head,
        "Conv0": lambda: block.up if network == "G" else block.conv,
        "Conv0_up": lambda: block.up,
        "Conv1": lambda: block.conv if network == "G" else block.down,
        "Conv1_down": lambda: block.down,
    }
    return getattr(layers[inner[0]](), what)


def as_ours(value: Tensor, network: str, name: str) -> Tensor:
    """A weight of theirs in our order of axes: theirs has channels last, inputs before outputs."""
    if network == "R" or not name.endswith("/weight"):
        return value
    if "Conv0_up" in name:
        # It spreads an input over outputs, and so meets the kernel backwards, outputs first.
        flipped = value.flip(*range(value.dim() - 2))
        return flipped.permute(-2, -1, *range(value.dim() - 2))
    return value.permute(-1, -2, *range(value.dim() - 2))


def as_theirs(value: Tensor, network: str, name: str, rank: int) -> Tensor:
    """The inverse of `as_ours`; `rank` counts the axes of theirs."""
    if network == "R" or not name.endswith("/weight"):
        return value
    if rank < value.dim():
        value = value.squeeze(2)  # kernels of one frame
    if "Conv0_up" in name:
        turned = value.permute(*range(2, rank), 0, 1)
        return turned.flip(*range(rank - 2))
    return value.permute(*range(2, rank), 1, 0)


# ------------------------------------------------------------------------------------------------
# Numbers


def beside(side: Side, folder: Path) -> list[Row]:
    """Outputs of every stage; losses, gradients and a whole update of the last."""
    order = "conv-act-pool" if side.has_clips else "conv-pool-act"
    words = [
        *WORDS,
        f"model.downsample={order}",
        f"model.frames={list(side.frames)}",
        f"training.batch_size={CLIPS}",
    ]
    config = preset(side.preset, *words, "training.fakes=fresh", *RATES)
    gan = config.model.build(ClipShape(3, side.frames[-1], SIDE, SIDE))
    with torch.no_grad():
        for network in gan.networks.values():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    step, draws = training_step(config, gan), deque[Tensor]()
    with their_code(side, folder, draws) as code:
        start_variables()
        variables = variables_of(code)
        assign(
            {
                variable: as_theirs(our_parameter(gan, *key), *key, len(variable.shape))
                for key, variable in variables.items()
            }
        )
        rows = [row for stage in STAGES.items() for row in outputs(side, code, gan, *stage)]
        rows += [fused(code)] if side.has_clips else []
        set_stage(side, code, gan, *STAGES["last level"])
        return [*rows, *training(side, code, step, draws)]


RATES = ["training.generator.lr=0.001", "training.discriminator.lr=0.001"]


def set_stage(side: Side, code: SimpleNamespace, gan: GAN, level: int, alpha: float) -> Stage:
    """Both networks at a stage; theirs counts levels of detail from the last one down."""
    stage = Stage(
        level=level,
        frames=side.frames[level],
        resolution=4 * 2**level,
        batch_size=CLIPS,
        alpha=alpha,
    )
    gan.set_stage(stage)
    detail = torch.tensor(len(side.frames) - 1 - level + 1 - alpha)
    assign({code.G.vars["lod"]: detail, code.D.vars["lod"]: detail})
    return stage


def full_size(side: Side, clip: Tensor, level: int, gan: Any) -> Tensor:
    """Clips of a level at the size of the last, which theirs always has; images without time."""
    for factor in growth_factors(gan.levels)[level + 1 :]:
        clip = upsample_clip(clip, factor)
    return clip if side.has_clips else clip[:, :, 0]


def outputs(
    side: Side, code: SimpleNamespace, gan: GAN, name: str, place: tuple[int, float]
) -> list[Row]:
    """What both networks make at a stage."""
    stage = set_stage(side, code, gan, *place)
    latent, labels = torch.randn(CLIPS, WIDTH), torch.zeros(CLIPS, 0)
    clip = torch.rand(CLIPS, 3, stage.frames, stage.resolution, stage.resolution) * 2 - 1
    made = full_size(side, gan.generator(latent), stage.level, gan)
    realness = gan.discriminators["discriminator"](clip).realness
    shown = full_size(side, clip, stage.level, gan)
    as_constant = code.tensorflow.constant
    theirs = code.G.get_output_for(as_constant(latent.numpy()), as_constant(labels.numpy()))
    scores, _ = code.D.get_output_for(as_constant(shown.numpy()))
    if side.has_clips:
        scores, _ = code.R.get_output_for(scores)
    made_theirs, scores_theirs = run([theirs, scores])
    return [
        Row(f"generator, output, {name}", difference([made], [made_theirs])),
        Row(f"discriminator, output, {name}", difference([realness], [scores_theirs])),
    ]


def fused(code: SimpleNamespace) -> Row:
    """Their fused convolutions where time doubles or halves, which are those of the plain form."""
    tf, networks = code.tensorflow, code.networks
    x, gain = torch.randn(2, WIDTH, 4, 8, 8), math.sqrt(2 / (27 * WIDTH))
    weight, found = torch.randn(WIDTH, WIDTH, 3, 3, 3), []
    for name in ("upscale3d_conv3d", "conv3d_downscale3d"):
        with tf.variable_scope(name):
            y = getattr(networks, name)(tf.constant(x.numpy()), WIDTH, 3, use_wscale=True)
            (variable,) = tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, f"{name}/")
        label = "Conv0_up/weight" if name.startswith("up") else "Conv1_down/weight"
        assign({variable: as_theirs(weight, "G", label, 5)})
        found.append(run(y))
    factor = (2, 2, 2)
    ours = [
        upsample_conv3d(x, math.sqrt(3) * gain * weight, None, factor),
        conv3d_pool(x, gain * weight, None, factor),
    ]
    return Row(
        "fused convolutions where time doubles or halves",
        difference(ours, found),
        "the enlarging one's weights are the root of 3 larger there, for it counts 9 of 27 taps "
        "(given alike; pixel norm follows)",
    )


def training(
    side: Side, code: SimpleNamespace, step: TrainingStep, draws: "deque[Tensor]"
) -> list[Row]:
    """Losses, gradients and one update of each player at the last level."""
    real = torch.rand(CLIPS, 3, side.frames[-1], SIDE, SIDE) * 2 - 1
    batch, keys = batch_of(real), [UpdateKey(step.seed), UpdateKey(step.seed, fresh=True)]
    latents = [step.random(batch, key, "latent").normal(WIDTH).double() for key in keys]
    tf = code.tensorflow
    variables = {
        key: v
        for key, v in variables_of(code).items()
        if our_parameter(step.gan, *key).requires_grad
    }
    players = {
        "G": [v for key, v in variables.items() if key[0] == "G"],
        "D": [v for key, v in variables.items() if key[0] != "G"],
    }

    # Theirs: graphs of both losses, each with its own random numbers.
    rates = {"learning_rate": tf.constant(0.001, tf.float64), **ADAM}
    optimizers = {n: code.tfutil.Optimizer(name=f"Train{n}", **rates) for n in players}
    settings = {name: getattr(code, name) for name in "GDR" if hasattr(code, name)}
    settings |= {
        "training_set": SimpleNamespace(get_random_labels_tf=lambda count: tf.zeros([count, 0])),
        "minibatch_size": CLIPS,
    }
    shown = tf.constant(full_size(side, real, len(side.frames) - 1, step.gan).numpy())
    draws.extend([latents[1], latents[0], *mixing(side, step, batch, keys[0])])
    losses = {
        "G": getattr(code.loss, side.losses[0])(opt=optimizers["G"], **settings),
        "D": getattr(code.loss, side.losses[1])(
            opt=optimizers["D"], reals=shown, labels=tf.zeros([CLIPS, 0]), **settings
        ),
    }
    means = {name: tf.reduce_mean(loss) for name, loss in losses.items()}
    start_summaries(tf, code)
    values, slopes = run(
        [
            [means["D"], means["G"]],
            [tf.gradients(means[name], players[name]) for name in ("D", "G")],
        ]
    )

    # Ours.
    parts = [step.generate(batch, key) for key in keys]
    loss, _ = step.discriminator_loss(batch, parts[0], keys[0], 0)
    loss_g, _ = step.generator_loss(batch, parts[1], keys[1])
    names = {n: [key for key in variables if (key[0] == "G") == (n == "G")] for n in players}
    found = []
    for name, own, given in (("D", loss, slopes[0]), ("G", loss_g, slopes[1])):
        parameters = [our_parameter(step.gan, *key) for key in names[name]]
        theirs = [as_ours(g, *key) for key, g in zip(names[name], given, strict=True)]
        found.append(difference(gradients(own, parameters), theirs))
    rows = [
        Row("losses of both players", difference([loss, loss_g], values)),
        Row("gradients of both players", max(found)),
    ]
    if side.has_clips:
        rows.append(sliced_head(code, step, tf, means["D"]))
    rows.append(update(side, code, step, batch, (optimizers, means, players, names), draws))
    return rows


def mixing(side: Side, step: TrainingStep, batch: Batch, key: UpdateKey) -> list[Tensor]:
    """Where on their lines the penalties of ours look, in the shapes that theirs draws."""
    shapes = {"slope": (CLIPS, 1)}
    whole = (CLIPS, 1, 1, 1, 1) if side.has_clips else (CLIPS, 1, 1, 1)
    return [
        step.random(batch, key, "penalty", "discriminator", kind)
        .uniform()
        .double()
        .view(shapes.get(kind, whole))
        for kind in side.penalties
    ]


def start_summaries(tf: Any, code: SimpleNamespace) -> None:
    """Initial values for what their graphs count while they compute."""
    networks = {v.name for n in "GDR" if hasattr(code, n) for v in getattr(code, n).vars.values()}
    others = [v for v in tf.global_variables() if v.name not in networks]
    tf.get_default_session().run(tf.variables_initializer(others))


def sliced_head(code: SimpleNamespace, step: TrainingStep, tf: Any, loss: Any) -> Row:
    """What their optimizer wrapper does to projections, and ours to the same."""
    (variable,) = (v for name, v in code.R.trainables.items() if name.endswith("proj"))
    gradient = tf.gradients(loss, variable)[0]
    product = tf.matmul(tf.transpose(variable), gradient)
    tangent = gradient - tf.matmul(variable, 0.5 * (product + tf.transpose(product)))
    plain, projected, (turned, _) = run([gradient, tangent, tf.qr(variable)])
    head: Any = step.gan.discriminators["discriminator"].head
    before = head.projections.detach().clone()
    head.projections.grad = plain[None].clone()
    head.project_gradient()
    mine = head.projections.grad
    head.retract()
    signs = (head.projections[0] * turned).sum(0).sign()
    pulled = head.projections.detach()[0] * signs
    with torch.no_grad():
        head.projections.copy_(before)
    head.projections.grad = None
    return Row(
        "sliced head: tangent gradient, and QR up to signs",
        difference([mine, pulled], [projected, turned]),
        "columns keep their direction here, theirs may turn round (model.head_keeps_signs); theirs "
        "pulls back in no fixed order with the step, ours after it",
    )


def update(
    side: Side,
    code: SimpleNamespace,
    step: TrainingStep,
    batch: Batch,
    theirs: tuple[dict[str, Any], dict[str, Any], dict[str, list[Any]], dict[str, list[Any]]],
    draws: "deque[Tensor]",
) -> Row:
    """A discriminator update, then a generator update, by their optimizer wrapper and our step."""
    optimizers, means, players, names = theirs
    draws.extend([torch.zeros(128, 128)] * 2)  # what theirs adds to nothing
    ops = {}
    for name in ("D", "G"):
        # Theirs pulls projections back while it still computes: the gradients would meet either.
        moved = [v for v in players[name] if not v.name.endswith(".proj:0")]
        optimizers[name].register_gradients(means[name], moved)
        ops[name] = optimizers[name].apply_updates()
    start_summaries(code.tensorflow, code)
    kept = [key for name in ("D", "G") for key in names[name] if not key[1].endswith(".proj")]
    variables = variables_of(code)
    parameters = [our_parameter(step.gan, *key) for key in kept]
    starts = [p.detach().clone() for p in parameters]
    moves = Moves([(p, s.clone()) for p, s in zip(parameters, starts, strict=True)])
    step.run(0, 0, lambda: batch)
    run(ops["D"])
    # The projections after their own step are those of no order; the generator meets ours.
    head_of(code, step)
    run(ops["G"])
    after = run([variables[key] for key in kept])
    moves.pairs = [
        (p, as_ours(a, *key).reshape(p.shape))
        for key, p, a in zip(kept, parameters, after, strict=True)
    ]
    return Row(
        "one discriminator and one generator update of their optimizer (Adam)",
        moves.difference(),
        "Adam's epsilon of 1e-8 counts ten times as much in a first step there, and alike later "
        "(given alike)" + ("; without the projections" if side.has_clips else ""),
    )


def head_of(code: SimpleNamespace, step: TrainingStep) -> None:
    """Give theirs our projections."""
    if not hasattr(code, "R"):
        return
    head: Any = step.gan.discriminators["discriminator"].head
    assign({v: head.projections for n, v in code.R.trainables.items() if n.endswith("proj")})


# ------------------------------------------------------------------------------------------------
# Schedules


def schedule(side: Side, folder: Path) -> Row:
    """Level, fade, batch size and rates of a whole run, and where Adam forgets."""
    config = load_config(side.preset, ["data=none", "run=none"])
    shape = ClipShape(3, config.data.frames, config.data.resolution, config.data.resolution)
    plan = plan_schedule(config, shape)
    last = len(plan.levels) - 1
    places = range(EVERY // 2, plan.total, EVERY)
    told = their_schedule(side, folder, last + 2, places)
    mine = []
    for clips in places:
        stage = stage_at(clips, plan)
        detail = last - stage.level + 1 - stage.alpha
        mine.append([detail, stage.batch_size, *rates_of(config, stage)])
    given = [[now.lod, now.minibatch, now.G_lrate, now.D_lrate] for now in told]
    # Theirs forgets where the whole part of the level of detail changes, rounded down or up.
    parts = [(math.floor(now.lod), math.ceil(now.lod)) for now in told]
    resets = [clips for clips, a, b in zip(places[1:], parts, parts[1:], strict=False) if a != b]
    fades = list(zip(plan.starts, plan.fades, strict=True))[1:]
    ours = sorted(edge + EVERY // 2 for s, f in fades for edge in (s, s + f))
    tensors = ([torch.tensor(a) for a in pair] for pair in ((mine, ours), (given, resets)))
    return Row(
        "schedule: level, fade, batch size and rates every 1,000 clips, resets of Adam",
        difference(*tensors),
        "theirs looks at it every 4 batches, ours at every one; at the very clip at which a fade "
        "begins, theirs has the batch size of the level before",
    )


EVERY = 1000


def rates_of(config: Config, stage: Stage) -> list[float]:
    """Learning rates of both players."""
    rates = (config.training.generator.lr, config.training.discriminator.lr)
    return [rate[stage.level] if isinstance(rate, tuple) else rate for rate in rates]


def their_schedule(side: Side, folder: Path, resolution_log2: int, places: range) -> list[Any]:
    """`TrainingSchedule` of theirs at many places, with the settings of their `config.py`."""
    place, data = folder / side.folder, SimpleNamespace(resolution_log2=resolution_log2)
    words = {"os.environ['SGE_GPU']": "''"} if side.has_clips else {}
    with tensorflow(deque()) as tf:
        given = {"config": translated(place / "config.py", {}), "tensorflow": tf}
        with imports_from(place, {**given, **stand_ins("tfutil", "dataset", "misc")}):
            train = translated(place / "train.py", words)
        settings = vars(given["config"])["sched"]
        return [train.TrainingSchedule(clips, data, **settings) for clips in places]
