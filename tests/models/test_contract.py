"""What every model promises, tested on small members of every family."""

from pathlib import Path

import pytest
import torch
from model_cases import CASES, Case
from torch import Tensor

from vidgan.models.base import GAN, Discriminator, Scores, Stage
from vidgan.sampling.storage import GeneratorCard, load_generator, plain_model, save_generator

pytestmark = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def discriminate(
    case: Case, gan: GAN, clips: Tensor, labels: Tensor | None
) -> list[tuple[Discriminator, Scores]]:
    """Scores of every discriminator, each with a view of its own where it draws one."""
    rng, context = torch.Generator().manual_seed(3), case.context(gan, len(clips))
    return [
        (d, d(clips, labels, context, d.draw_view(len(clips), rng)))
        for d in gan.discriminators.values()
    ]


def smallest_batch(gan: GAN) -> int:
    coupled = any(network.couples_batch == "batch" for network in gan.networks.values())
    return max(*(d.group_size for d in gan.discriminators.values()), 2 if coupled else 1)


Inputs = tuple[Tensor, Tensor | None, Tensor | None]


def inputs_of(case: Case, gan: GAN, count: int) -> Inputs:
    """Latents, labels and context of `count` clips."""
    return case.latents(gan, count), case.labels(gan, count), case.context(gan, count)


def rows_of(inputs: Inputs, rows: Tensor | slice) -> Inputs:
    latents, labels, context = inputs
    return (
        latents[rows],
        None if labels is None else labels[rows],
        None if context is None else context[rows],
    )


def test_generator_makes_clips_of_the_asked_shape(case: Case) -> None:
    gan = case.build().train(False)
    clips = gan.generator(*inputs_of(case, gan, 3))
    assert clips.shape == case.targets(gan, 3).shape
    assert clips.dtype == torch.float32
    assert clips.isfinite().all()
    # Untrained clips are neither flat nor saturated.
    assert case.least_spread < float(clips.detach().std()) < 3


def test_forward_is_the_clip_among_the_parts(case: Case) -> None:
    gan = case.build().train(False)
    inputs = inputs_of(case, gan, 2)
    parts = gan.generator.parts(*inputs)
    assert torch.equal(parts["clip"], gan.generator(*inputs))
    longer = parts["clip"].shape[2] + 2
    if case.any_length:
        clip = gan.generator.parts(*inputs, num_frames=longer)["clip"]
        assert clip.shape[2] == longer
        torch.testing.assert_close(clip[:, :, : longer - 2], parts["clip"])
    else:
        with pytest.raises(ValueError, match=r"frames|length"):
            gan.generator.parts(*inputs, num_frames=longer)


def test_images_beside_the_clip_are_those_declared(case: Case) -> None:
    gan = case.build().train(False)
    parts = gan.generator.parts(*inputs_of(case, gan, 2))
    assert set(parts) - {"clip", "category"} == set(gan.generator.shows)
    for name in gan.generator.shows:
        part = parts[name].detach()
        assert part.shape[1] in (1, case.clip_shape.channels)
        assert part.shape[2:] == parts["clip"].shape[2:]
        least = 0 if name == "mask" else -1
        assert least <= float(part.min()) <= float(part.max()) <= 1
    assert set(gan.generator.motion_parts) <= set(gan.generator.latent_parts)


def test_clips_begin_with_the_given_frames_only_where_declared(case: Case) -> None:
    gan = case.build()
    context, target = case.split(gan, case.clips(2))
    begins = context is not None and torch.equal(target[:, :, : context.shape[2]], context)
    assert gan.generator.repeats_context == begins


def test_smallest_batch_trains(case: Case) -> None:
    gan = case.build().train()
    count = smallest_batch(gan)
    inputs = inputs_of(case, gan, count)
    clips = gan.generator(*inputs)
    scores = [s for _, s in discriminate(case, gan, clips, inputs[1])]
    torch.stack([s.realness.mean() for s in scores]).sum().backward()
    gradients = [p.grad for n in gan.networks.values() for _, p in n.parameters_in_use()]
    assert all(bool(g.isfinite().all()) for g in gradients if g is not None)
    reached = [g for g in gradients if g is not None and float(g.abs().max()) > 0]
    assert len(reached) > len(gradients) / 2


def test_generator_is_a_pure_function_of_its_inputs(case: Case) -> None:
    gan = case.build().train(False)
    inputs = inputs_of(case, gan, 2)
    first = gan.generator(*inputs)
    torch.manual_seed(99)
    assert torch.equal(gan.generator(*inputs), first)


def test_latent_parts_cover_the_latent_without_overlap(case: Case) -> None:
    generator = case.build().generator
    covered = [i for part in generator.latent_parts.values() for i in range(part.start, part.stop)]
    assert sorted(covered) == list(range(generator.latent_dim()))


def test_generator_rows_are_independent(case: Case) -> None:
    gan = case.build().train(False)
    gan.to(dtype=torch.float64)
    inputs = inputs_of(case, gan, 4)
    latents, labels, context = inputs
    clips = gan.generator(*inputs)

    order = torch.tensor([2, 0, 3, 1])
    permuted = gan.generator(*rows_of(inputs, order))
    torch.testing.assert_close(permuted, clips[order], atol=1e-12, rtol=0)

    if latents.numel():
        changed = latents.clone()
        changed[1] = -changed[1]
        assert changed_rows(gan.generator(changed, labels, context), clips) == [1]
    if labels is not None:
        other = labels.clone()
        other[2] = (other[2] + 1) % gan.generator.num_classes
        assert changed_rows(gan.generator(latents, other, context), clips) == [2]
    if context is not None:
        given = context.clone()
        given[3] = -given[3]
        assert changed_rows(gan.generator(latents, labels, given), clips) == [3]
    alone = gan.generator(*rows_of(inputs, slice(0, 1)))
    torch.testing.assert_close(alone, clips[:1], atol=1e-12, rtol=0)


def test_discriminator_couples_no_more_rows_than_it_declares(case: Case) -> None:
    gan = case.build()
    gan.to(dtype=torch.float64)
    group = smallest_batch(gan)
    clips = case.targets(gan, 2 * group)
    labels = case.labels(gan, 2 * group)
    changed = clips.clone()
    changed[0] = -changed[0]
    for (discriminator, before), (_, after) in zip(
        discriminate(case, gan, clips, labels),
        discriminate(case, gan, changed, labels),
        strict=True,
    ):
        moved = changed_rows(after.realness, before.realness)
        if discriminator.couples_batch == "none":
            assert moved == [0]
        elif discriminator.couples_batch == "group":
            # All of the group moves: otherwise it would be declared in vain.
            assert moved == list(range(group))


def changed_rows(after: Tensor, before: Tensor) -> list[int]:
    distance = (after - before).abs().flatten(1).amax(dim=1)
    return torch.nonzero(distance > 1e-12).flatten().tolist()


def test_scores_have_the_declared_shapes(case: Case) -> None:
    gan = case.build()
    count = smallest_batch(gan)
    labels = case.labels(gan, count)
    for discriminator, scores in discriminate(case, gan, case.targets(gan, count), labels):
        assert scores.realness.dim() == 2
        assert len(scores.realness) == count
        if scores.class_logits is not None:
            own = getattr(case.config, "categories", 0)
            assert scores.class_logits.shape == (count, case.num_classes or own)
        if scores.encoding is not None:
            assert scores.encoding.dim() == 2
        view = discriminator.draw_view(count, torch.Generator().manual_seed(0))
        assert view is None or len(view) == count


def test_gradient_reaches_every_parameter_in_use(case: Case) -> None:
    gan = case.build().train()
    count = 2 * smallest_batch(gan)
    inputs = inputs_of(case, gan, count)
    labels = inputs[1]
    clips = gan.generator(*inputs)
    total = torch.zeros(())
    for _, scores in discriminate(case, gan, clips, labels):
        total = total + (scores.realness * torch.randn_like(scores.realness)).sum()
        if scores.class_logits is not None:
            total = total + (scores.class_logits * torch.randn_like(scores.class_logits)).sum()
    total.backward()
    for network in gan.networks.values():
        in_use = dict(network.parameters_in_use())
        for name, parameter in network.named_parameters():
            if name in in_use:
                assert parameter.grad is not None, name
                assert parameter.grad.abs().max() > 0, name
            else:
                assert parameter.grad is None, name


def test_single_clip_works_in_eval_mode(case: Case) -> None:
    gan = case.build().train(False)
    inputs = inputs_of(case, gan, 1)
    labels = inputs[1]
    clip = gan.generator(*inputs)
    for _, scores in discriminate(case, gan, clip, labels):
        assert scores.realness.isfinite().all()


def test_labels_are_asked_for_and_refused(case: Case) -> None:
    gan = case.build()
    latents, labels, context = inputs_of(case, gan, 2)
    wrong = torch.tensor([0, 0]) if labels is None else None
    with pytest.raises(ValueError, match=r"labels"):
        gan.generator(latents, wrong, context)


def test_context_is_asked_for(case: Case) -> None:
    gan = case.build()
    latents, labels, context = inputs_of(case, gan, 2)
    assert (context is not None) == (gan.generator.context_frames > 0)
    if context is not None:
        assert context.shape[2] == gan.generator.context_frames
        assert gan.generator.latent_dim() == latents.shape[1]
        with pytest.raises(ValueError, match=r"given frames"):
            gan.generator(latents, labels)


def test_saved_generator_is_the_same_function(case: Case, tmp_path: Path) -> None:
    gan = case.build().train(False)
    names = [f"class {i}" for i in range(case.num_classes)]
    # A model of fixed size keeps no stage.
    _, frames, resolution, _ = case.clip_shape
    fixed = Stage(level=0, frames=frames, resolution=resolution, batch_size=1)
    stage = getattr(gan.generator, "stage", fixed)
    card = GeneratorCard(
        model=plain_model(case.config),
        clip_shape=case.clip_shape,
        num_classes=len(names),
        class_names=tuple(names),
        stage=stage,
        fps=8,
        step=0,
        clips_seen=0,
        loss="swgan",
    )
    save_generator(tmp_path / "g.safetensors", gan.generator, card)
    loaded = load_generator(tmp_path / "g.safetensors")
    inputs = inputs_of(case, gan, 2)
    assert torch.equal(loaded(*inputs), gan.generator(*inputs))


def test_double_backward_through_every_discriminator(case: Case) -> None:
    gan = case.build()
    count = smallest_batch(gan)
    clips, labels = case.targets(gan, count).requires_grad_(), case.labels(gan, count)
    for discriminator, scores in discriminate(case, gan, clips, labels):
        (gradient,) = torch.autograd.grad(scores.realness.sum(), clips, create_graph=True)
        gradient.square().sum().backward()
        weights = [p for _, p in discriminator.parameters_in_use() if p.dim() > 1]
        reached = [p for p in weights if p.grad is not None and p.grad.abs().max() > 0]
        assert len(reached) > len(weights) / 2
