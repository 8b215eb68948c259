"""One training step: discriminator updates, a generator update, the moving average.

This is the only file that runs a backward pass or an optimizer. Every random number of a step is
keyed by an `UpdateKey` and its purpose, drawn for the whole batch and sliced, so a step gives the
same result whatever the number of processes or micro-batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import to_float
from vidgan.core.distributed import Processes
from vidgan.core.randomness import BatchRandom, Key, keyed_rng, send
from vidgan.losses.auxiliary import AuxiliaryInputs
from vidgan.losses.penalties import PenaltyInputs
from vidgan.losses.recipes import Loss
from vidgan.models.base import GAN, Discriminator, Generator, Network, Scores, Stage
from vidgan.models.parts.growth import fades
from vidgan.training.augment import augment
from vidgan.training.ema import (
    PLAYERS,
    decay_at,
    make_optimizers,
    measure_statistics,
    named_parameters,
    player_settings,
    set_learning_rate,
    update_average,
)
from vidgan.training.loss_checks import check_loss
from vidgan.training.settings import TrainingConfig
from vidgan.training.shares import WHOLE, Share, SharedRandom, shares_of

Logs = dict[str, Tensor]
Parts = Mapping[str, Tensor]
"""What a generator made: `clip` and its other outputs. A part `category` `[B]` is
what it drew in place of labels; classifiers of discriminators learn to name it."""


@dataclass(frozen=True)
class Batch:
    """This process' share of a global batch, or a micro-batch of it.

    Attributes:
        real: uint8 clips `[B, C, T, H, W]`, or float in [-1, 1] once prepared.
        labels: `[B]` or None.
        global_size: clips of the batch over all processes.
        start: row of the first clip in the global batch.
        context: given frames, or None.
    """

    real: Tensor
    labels: Tensor | None
    global_size: int
    start: int
    context: Tensor | None = None

    def rows(self, first: int, last: int) -> "Batch":
        """Rows `first:last` of this share."""
        return Batch(
            real=self.real[first:last],
            labels=None if self.labels is None else self.labels[first:last],
            global_size=self.global_size,
            start=self.start + first,
            context=None if self.context is None else self.context[first:last],
        )

    def of(self, share: Share) -> "Batch":
        """The rows that a discriminator sees; random rows are those of the whole."""
        real, labels, context = (share.rows(t) for t in (self.real, self.labels, self.context))
        assert real is not None
        return replace(self, real=real, labels=labels, context=context)


class UpdateKey(NamedTuple):
    """Which update a random number is for.

    Attributes:
        seed: of the run.
        attempt: number of roll-backs so far; it gives the same step other noise.
        step: generator updates made so far.
        turn: discriminator updates of this step made so far.
        fresh: whether the generator's update draws other numbers than the discriminators'.
        is_check: whether it is not an update of the run but the one whose gradients are compared.
    """

    seed: int
    attempt: int = 0
    step: int = 0
    turn: int = 0
    fresh: bool = False
    is_check: bool = False

    def purpose(self, *words: str) -> tuple[Key, ...]:
        """The key of the random numbers for a purpose."""
        if self.is_check:
            return (self.seed, "gradients", *words)
        fresh = ("fresh",) if self.fresh else ()
        return (self.seed, self.attempt, self.step, self.turn, *fresh, *words)


class Tape(Protocol):
    """Records the random numbers of a step, or supplies buffers for them."""

    def random(self, key: UpdateKey, open_rows: Callable[[UpdateKey], BatchRandom]) -> BatchRandom:
        """Random rows of a key; `open_rows` gives those of any key."""

    def view(self, key: UpdateKey, draw: Callable[[UpdateKey], Tensor | None]) -> Tensor | None:
        """A view of a key; `draw` gives that of any key."""


class TrainingStep:
    """Everything a step updates: the networks, the averaged generator and the optimizers."""

    def __init__(
        self,
        gan: GAN,
        averaged: Generator,
        loss: Loss,
        settings: TrainingConfig,
        seed: int,
        num_levels: int = 1,
        processes: Processes | None = None,
    ) -> None:
        check_loss(gan, loss)
        self.gan = gan
        self.averaged = averaged
        self.loss = loss
        self.settings = settings
        self.seed = seed
        self.num_levels = num_levels
        self.processes = processes or Processes()
        for network in gan.networks.values():
            for layer in network.running_layers():
                layer.processes = self.processes
        self.optimizers = make_optimizers(gan, settings)
        self.stage: Stage | None = None
        self.shares: dict[str, Share] = {}
        self.last_batch: Batch | None = None
        self.tape: Tape | None = None

    # -- Stage -----------------------------------------------------------------------------------

    def enter(self, stage: Stage) -> None:
        """Activate a stage: set the level's learning rates, reset the optimizers where due.

        Restoring a checkpoint calls this before it loads the optimizers' state.
        """
        before, self.stage = self.stage, stage
        self.gan.set_stage(stage)
        self.averaged.set_stage(stage)
        self.shares = shares_of(self.settings, stage.level, self.num_levels, stage.batch_size)
        self.averaged.requires_grad_(False)
        level_begins = before is None or stage.level != before.level
        fade_ends = before is not None and fades(before) and not fades(stage)
        resets = (level_begins and self.settings.reset_optimizer) or (
            fade_ends and self.settings.reset_after_fade
        )
        for player, optimizer in self.optimizers.items():
            config = player_settings(self.settings, player)
            set_learning_rate(optimizer, config, player, stage.level, self.num_levels)
            if resets:
                optimizer.state.clear()

    # -- Step ------------------------------------------------------------------------------------

    def run(self, step: int, attempt: int, next_batch: Callable[[], Batch]) -> Logs:
        """Take step number `step` and return its losses as scalars on the device.

        Args:
            step: generator updates made so far.
            attempt: number of roll-backs so far; it gives the same step other noise.
            next_batch: returns this process' share of the next real batch.
        """
        logs = self.update_players(step, attempt, next_batch)
        self.average(step)
        return logs

    def average(self, step: int) -> None:
        """Move the averaged generator towards what step number `step` made of the generator."""
        update_average(self.averaged, self.gan.generator, decay_at(self.settings, step))

    def update_players(self, step: int, attempt: int, next_batch: Callable[[], Batch]) -> Logs:
        """`run` without the average, which is all that a CUDA graph captures."""
        settings = self.settings
        generator_first = settings.order == "generator_first"
        # The turn whose fakes the generator's update may share. They then keep their graph, which
        # for all micro-batches at once would take the memory that these save.
        own_turn = 0 if generator_first else settings.discriminator_steps - 1
        shares = settings.fakes == "shared" and settings.accumulate == 1
        logs: Logs = {}
        for turn in range(settings.discriminator_steps):
            key = UpdateKey(self.seed, attempt, step, turn)
            batches = self.split(next_batch(), key)
            keep_graph = shares and turn == own_turn
            fakes = [self.generate(batch, key, keep_graph) for batch in batches]
            if generator_first and turn == own_turn:
                logs |= self.update_generator(batches, fakes, key)
            logs |= self.update_discriminators(batches, fakes, key)
            if not generator_first and turn == own_turn:
                key = key._replace(fresh=settings.fakes == "fresh")
                logs |= self.update_generator(batches, fakes, key)
        self.last_batch = batches[-1]
        return logs

    def update_discriminators(
        self, batches: Sequence[Batch], fakes: Sequence[Parts], key: UpdateKey
    ) -> Logs:
        """One optimizer step of all discriminators on the mean loss of the micro-batches."""
        update = key.step * self.settings.discriminator_steps + key.turn
        networks = list(self.gan.discriminators.values())
        losses = (
            self.discriminator_loss(batch, fake, key, update)
            for batch, fake in zip(batches, fakes, strict=True)
        )
        logs = self.update("discriminator", networks, losses, len(batches), update)
        for constraint in self.loss.constraints.values():
            if (update + 1) % constraint.every == 0:
                for network in networks:
                    constraint(network)
        return logs

    def update_generator(
        self, batches: Sequence[Batch], fakes: Sequence[Parts], key: UpdateKey
    ) -> Logs:
        """One optimizer step of the generator; fakes without a graph are generated again."""
        again = key.fresh or not fakes[0]["clip"].requires_grad
        losses = (
            self.generator_loss(batch, self.generate(batch, key) if again else fake, key)
            for batch, fake in zip(batches, fakes, strict=True)
        )
        return self.update("generator", [self.gan.generator], losses, len(batches), key.step)

    def update(
        self,
        player: str,
        networks: Sequence[Network],
        losses: Iterator[tuple[Tensor, Logs]],
        count: int,
        update_index: int,
    ) -> Logs:
        """Differentiate the losses, average over micro-batches and processes, and step.

        Raises:
            RuntimeError: a parameter that the stage trains got no gradient.
        """
        named = [(f"{player}: {name}", p) for n in networks for name, p in n.parameters_in_use()]
        parameters = [parameter for _, parameter in named]
        totals: list[Tensor] = []
        logs: Logs = {}
        for loss, part in losses:
            gradients = torch.autograd.grad(loss / count, parameters, allow_unused=True)
            missing = [n for (n, _), g in zip(named, gradients, strict=True) if g is None]
            if missing:
                raise RuntimeError(f"no gradient reached {', '.join(missing)}")
            present = [gradient for gradient in gradients if gradient is not None]
            totals = list(torch._foreach_add(totals, present)) if totals else present
            for name, value in part.items():
                logs[name] = logs.get(name, torch.zeros_like(value)) + value.detach() / count

        for parameter, gradient in zip(parameters, self.processes.average(totals), strict=True):
            # Fused Adam (torch 2.13, CPU) reads a gradient in memory order, whatever its strides.
            parameter.grad = gradient.contiguous()
        for network in networks:
            network.before_step()
        self.optimizers[player].step()
        self.optimizers[player].zero_grad(set_to_none=True)
        for network in networks:
            self.settle(network)
            network.after_step(update_index)
        return logs

    def settle(self, network: Network) -> None:
        """Move running statistics by the mean of what every process saw in this update."""
        layers = network.running_layers()
        seen = [value for layer in layers for value in layer.observed]
        for value, mean in zip(seen, self.processes.average(seen), strict=True):
            value.copy_(mean)
        for layer in layers:
            layer.settle()

    # -- Losses ----------------------------------------------------------------------------------

    def discriminator_loss(
        self, batch: Batch, parts: Parts, key: UpdateKey, update: int
    ) -> tuple[Tensor, Logs]:
        """Adversarial loss, class loss and penalties, summed over discriminators.

        Args:
            parts: what the generator made; no gradient reaches it.
            update: discriminator updates made so far.
        """
        total = torch.zeros((), device=batch.real.device)
        logs: Logs = {}
        real = self.augmented(batch.real, batch, key, "augment real")
        fake = self.augmented(parts["clip"].detach(), batch, key, "augment fake")
        for name, discriminator in self.gan.discriminators.items():
            share = self.shares.get(name, WHOLE)
            own, own_fake = replace(batch, real=real).of(share), share.rows(fake)
            view = share.rows(self.view(name, batch, key, "view"))
            with self.autocast(), discriminator.observing():
                scores_real, scores_fake = self.score_both(discriminator, own, own_fake, view)
            loss = self.loss.adversarial.discriminator(scores_real.realness, scores_fake.realness)
            logs[f"{name}/adversarial"] = loss
            logs[f"{name}/real"] = scores_real.realness.mean()
            logs[f"{name}/fake"] = scores_fake.realness.mean()

            category = share.rows(parts.get("category"))
            classes = self.discriminator_class_loss(scores_real, scores_fake, own.labels, category)
            if classes is not None:
                logs[f"{name}/classes"] = classes
                loss = loss + self.loss.class_weight * classes

            for kind, penalty in self.loss.penalties.items():
                if update % penalty.every:
                    continue
                at = PenaltyInputs(
                    discriminator=discriminator,
                    real=own.real,
                    fake=own_fake,
                    scores_real=scores_real,
                    scores_fake=scores_fake,
                    labels=own.labels,
                    context=own.context,
                    view=view,
                    rng=SharedRandom(self.random(batch, key, "penalty", name, kind), share),
                    scores_in_bf16=self.settings.precision.networks == "bf16",
                )
                with self.autocast(self.settings.precision.penalty == "bf16"):
                    value = penalty(at)
                logs[f"{name}/{kind}"] = value
                loss = loss + penalty.weight * penalty.every * value
            total = total + loss
        return total, {**logs, "loss/discriminator": total}

    def generator_loss(self, batch: Batch, parts: Parts, key: UpdateKey) -> tuple[Tensor, Logs]:
        """Adversarial loss and class loss, summed over discriminators, and auxiliary losses."""
        total = torch.zeros((), device=parts["clip"].device)
        fake = self.augmented(parts["clip"], batch, key, "augment generator")
        game, auxiliaries = self.loss.adversarial, self.loss.auxiliary.values()
        needs_real = game.is_paired or any(term.needs_real_scores for term in auxiliaries)
        scores_real = self.score_real(batch, key) if needs_real else {}
        all_scores: dict[str, Scores] = {}
        for name, discriminator in self.gan.discriminators.items():
            share = self.shares.get(name, WHOLE)
            labels, context = share.rows(batch.labels), share.rows(batch.context)
            view = share.rows(self.view(name, batch, key, "generator", "view"))
            with self.autocast():
                scores = discriminator(share.rows(fake), labels, context, view)
            all_scores[name] = scores
            pair = [scores_real[name].realness] if game.is_paired else []
            total = total + game.generator(scores.realness, *pair)
            asked_for = share.rows(parts.get("category")) if labels is None else labels
            if scores.class_logits is not None and asked_for is not None:
                total = total + self.loss.class_weight * self.class_loss(scores, asked_for)
        logs: Logs = {}
        for kind, auxiliary in self.loss.auxiliary.items():
            value = auxiliary(
                AuxiliaryInputs(
                    parts=parts,
                    context=batch.context,
                    real=batch.real,
                    labels=batch.labels,
                    scores=all_scores,
                    scores_real=scores_real,
                    generator=self.gan.generator,
                )
            )
            logs[f"generator/{kind}"] = value
            total = total + auxiliary.weight * value
        return total, {**logs, "loss/generator": total}

    def score_real(self, batch: Batch, key: UpdateKey) -> dict[str, Scores]:
        """Every discriminator's output on the reals, in the views of the generator's step."""
        real = self.augmented(batch.real, batch, key, "augment generator")
        scores = {}
        for name, discriminator in self.gan.discriminators.items():
            share = self.shares.get(name, WHOLE)
            own = replace(batch, real=real).of(share)
            view = share.rows(self.view(name, batch, key, "generator", "view"))
            with torch.no_grad(), self.autocast():
                scores[name] = discriminator(own.real, own.labels, own.context, view)
        return scores

    def score_both(
        self, discriminator: Discriminator, own: Batch, fake: Tensor, view: Tensor | None
    ) -> tuple[Scores, Scores]:
        """Scores of reals and fakes, in one pass unless that would let them see each other."""
        real, labels, context = own.real, own.labels, own.context
        count, group = len(real), discriminator.group_size
        coupling = discriminator.couples_batch
        if coupling == "batch" or (coupling == "group" and count % group):
            return (
                discriminator(real, labels, context, view),
                discriminator(fake, labels, context, view),
            )
        both: Scores = discriminator(
            torch.cat([real, fake]), _twice(labels), _twice(context), _twice(view)
        )
        return _rows(both, slice(count)), _rows(both, slice(count, None))

    def discriminator_class_loss(
        self, real: Scores, fake: Scores, labels: Tensor | None, category: Tensor | None
    ) -> Tensor | None:
        """What a classifier learns from: labels, or else the categories of fakes (InfoGAN)."""
        if real.class_logits is None:
            return None
        if labels is None:
            return None if category is None else self.class_loss(fake, category)
        classes = self.class_loss(real, labels)
        if self.loss.class_clips == "both":
            classes = classes + self.class_loss(fake, labels)
        return classes

    def class_loss(self, scores: Scores, classes: Tensor) -> Tensor:
        """Cross-entropy of the class logits against the asked-for classes `[B]`."""
        assert scores.class_logits is not None
        return F.cross_entropy(scores.class_logits, classes)

    # -- Inputs ----------------------------------------------------------------------------------

    def split(self, batch: Batch, key: UpdateKey) -> list[Batch]:
        """Prepare the reals of a batch, part them from the context and cut into micro-batches."""
        dtype = next(self.gan.generator.parameters()).dtype
        is_uint8 = batch.real.dtype == torch.uint8
        real = to_float(batch.real, dtype) if is_uint8 else batch.real.to(dtype)
        real = self.gan.prepare_real(real)
        context, real = self.gan.make_context(real, self.random(batch, key, "context"))
        labels = batch.labels if self.gan.generator.num_classes else None
        whole = Batch(real, labels, batch.global_size, batch.start, context)
        count = self.settings.accumulate
        share = len(real) // count
        return [whole.rows(i * share, (i + 1) * share) for i in range(count)]

    def generate(self, batch: Batch, key: UpdateKey, keep_graph: bool = True) -> Parts:
        """Fakes for the rows of a batch, from latents keyed by the step.

        Those with a graph are what the generator's own step differentiates.
        """
        generator = self.gan.generator
        latent = self.random(batch, key, "latent").normal(generator.latent_dim())
        latent = latent.to(batch.real.dtype)
        own = generator.observing(keep_graph)
        with torch.set_grad_enabled(keep_graph), own, self.autocast():
            parts = generator.parts(latent, batch.labels, batch.context)
        dtype = batch.real.dtype
        return {
            n: part.to(dtype) if part.is_floating_point() else part for n, part in parts.items()
        }

    def augmented(self, clip: Tensor, batch: Batch, key: UpdateKey, *words: str) -> Tensor:
        """Clips after the augmentation of the settings."""
        if not self.settings.augment.is_on:
            return clip
        return augment(clip, self.settings.augment, self.random(batch, key, *words))

    def view(self, name: str, batch: Batch, key: UpdateKey, *words: str) -> Tensor | None:
        """The rows of the view that a discriminator draws for the whole batch."""
        discriminator = self.gan.discriminators[name]
        rows, device = slice(batch.start, batch.start + len(batch.real)), batch.real.device

        def draw(key: UpdateKey) -> Tensor | None:
            rng = keyed_rng(*key.purpose(*words, name))
            view = discriminator.draw_view(batch.global_size, rng)
            return None if view is None else send(view[rows], device)

        return draw(key) if self.tape is None else self.tape.view(key, draw)

    def random(self, batch: Batch, key: UpdateKey, *words: str) -> BatchRandom:
        """Random rows for a batch."""
        stop = batch.start + len(batch.real)

        def open_rows(key: UpdateKey) -> BatchRandom:
            place = (batch.global_size, batch.start, stop, batch.real.device)
            return BatchRandom(key.purpose(*words), *place)

        return open_rows(key) if self.tape is None else self.tape.random(key, open_rows)

    def autocast(self, enabled: bool = True) -> AbstractContextManager[None]:
        """bfloat16 autocast where the settings ask for it."""
        on = enabled and self.settings.precision.networks == "bf16"
        context: AbstractContextManager[None] = torch.autocast(
            self.processes.device.type, dtype=torch.bfloat16, enabled=on
        )
        return context

    # -- Beside the steps ------------------------------------------------------------------------

    def measure_averaged(self, step: int) -> None:
        """Give the averaged generator standing statistics, if the settings ask for them.

        They depend on its weights, on `step` and on the given frames of the last batch alone; the
        next step's average overwrites them.
        """
        batch = self.last_batch
        if not self.settings.standing_batches or batch is None:
            return
        rng = keyed_rng(self.seed, "standing", step)
        with self.autocast():
            measure_statistics(
                self.averaged,
                self.settings.standing_batches,
                len(batch.real),
                batch.context,
                rng,
            )

    def first_fake(self, batch: Batch) -> Tensor:
        """The clips that the discriminators score in `gradients`."""
        key = UpdateKey(self.seed, is_check=True)
        return self.generate(self.split(batch, key)[0], key)["clip"].detach()

    def gradients(self, batch: Batch, fake: Tensor | None = None) -> dict[str, dict[str, Tensor]]:
        """Gradients of a first step on a batch, by loss and parameter, without updating anything.

        The losses are `discriminator`, with every penalty in it, then each penalty alone (without
        its weight, as `D/r1`), and `generator`. A parameter that a loss does not reach is left out.

        Args:
            batch: reals as the loader yields them; all of them are one micro-batch.
            fake: what the discriminators score in place of the generator's clips.
        """
        key = UpdateKey(self.seed, is_check=True)
        (prepared,) = self.split(batch, key)
        parts = self.generate(prepared, key)
        scored = parts if fake is None else {**parts, "clip": fake.to(parts["clip"])}
        total, logs = self.discriminator_loss(prepared, scored, key, update=0)
        losses = {"discriminator": {"discriminator": total}, "generator": {}}
        for name, value in logs.items():
            if name.rpartition("/")[2] in self.loss.penalties:
                losses["discriminator"][name] = value
        losses["generator"]["generator"], _ = self.generator_loss(prepared, parts, key)
        for network in self.gan.networks.values():
            for layer in network.running_layers():
                layer.forget()
        found = {}
        for player in PLAYERS:
            named = {n: p for n, p in named_parameters(self.gan, player) if p.requires_grad}
            for loss, value in losses[player].items():
                gradients = torch.autograd.grad(
                    value, list(named.values()), retain_graph=True, allow_unused=True
                )
                pairs = zip(named, gradients, strict=True)
                found[loss] = {name: part for name, part in pairs if part is not None}
        return found


def _twice(rows: Tensor | None) -> Tensor | None:
    return None if rows is None else torch.cat([rows, rows])


def _rows(scores: Scores, rows: slice) -> Scores:
    realness, logits, encoding = scores
    return Scores(
        realness[rows],
        None if logits is None else logits[rows],
        None if encoding is None else encoding[rows],
    )
