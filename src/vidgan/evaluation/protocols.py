"""The registered protocols: one table of frozen, named records.

A score may stand beside another only if both have the same protocol, number of clips, judge and
reference. Changing a field makes it a protocol named `custom:<hash>`; seeds are not part of it.

A protocol repeats a published procedure as far as packed clips allow. What differs stands in its
`source`. Real clips are always a seeded choice: where the original takes the first of a sorted list
the name ends in `-shuffled`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from vidgan.core.settings import apply_overrides, from_dict, to_dict
from vidgan.errors import UserError
from vidgan.evaluation.metric import Protocol, custom_id
from vidgan.extractors.extractor import EXTRACTORS
from vidgan.extractors.judge import ClassifierSettings
from vidgan.metrics.kernel import KernelRule

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "changed_protocol",
    "default_protocol",
    "describe_protocol",
    "find_protocol",
    "list_protocols",
    "protocol_id",
    "protocol_record",
]


_FVD = partial(
    Protocol,
    metrics=("frechet_distance",),
    frames=16,
    num_clips=2048,
    set_size=2048,
    max_groups=1,
    reference_size=2048,
)
_FVD_OF_256 = partial(
    _FVD,
    reference_split="heldout",
    reference_rule="whole split",
    reference_size=256,
    max_train_clips=0,
    allow_few=True,
)
_OF_FRAMES = partial(
    Protocol,
    metrics=("frechet_distance", "inception_score"),
    num_clips=10_000,
    set_size=10_000,
    max_groups=1,
)
_WINDOW = "Here real clips are the central window of every packed clip."

_WEIGHT_FREE = ("space_time_swd", "appearance", "overall", "overall_spread")
_WITH_A_NETWORK = ("frechet_distance", "kernel_distance", *_WEIGHT_FREE)
_WITH_A_JUDGE = ("inception_score", "frechet_distance", *_WEIGHT_FREE)


def _without(metrics: tuple[str, ...], *numbers: int) -> tuple[tuple[str, ...], ...]:
    """The metrics without the last ones, as many as asked for."""
    return tuple(metrics[:-number] for number in numbers)


EARLIER_METRICS: dict[str, tuple[tuple[str, ...], ...]] = {
    "own-c3d": _without(_WITH_A_JUDGE, 1, 3),
    "own-ssl": _without(_WITH_A_NETWORK, 1, 3),
    "random-c3d-fid": _without(_WITH_A_NETWORK, 1, 3),
    "stswd": _without(_WEIGHT_FREE, 1, 3),
}
"""Of protocols that have got more since: the scores that both have are made in the same way, so
records of either stand under one name."""

_OWN = [
    Protocol(
        name="own-c3d",
        summary="judge of shape and motion, blind to hue and noise, and distances that see them",
        extractor="own-c3d",
    ),
    Protocol(
        name="own-c3d-is",
        summary="Inception Score by the judge, with a bootstrap interval",
        metrics=("inception_score",),
        extractor="own-c3d",
        interval_draws=200,
    ),
    Protocol(
        name="own-c3d-fid",
        summary="Frechet distance by the judge, with interval and infinitely many clips",
        metrics=("frechet_distance",),
        extractor="own-c3d",
        num_clips=2048,
        interval_draws=40,
        extrapolate=True,
    ),
    Protocol(
        name="own-c3d-kid",
        summary="unbiased kernel distance by the judge; serves from a few clips on",
        metrics=("kernel_distance", "jedi"),
        extractor="own-c3d",
        interval_draws=40,
    ),
    Protocol(
        name="own-c3d-prdc",
        summary="precision, recall, density, coverage by the judge, k = 5",
        metrics=("precision", "recall", "density", "coverage"),
        extractor="own-c3d",
    ),
    Protocol(
        name="own-ssl",
        summary="Frechet and kernel distance by a judge that needs no classes",
        metrics=_WITH_A_NETWORK,
        extractor="own-ssl",
        # One of the two questions answered three times out of four is enough, and few features
        # let a Frechet distance be given of few clips.
        classifier=ClassifierSettings(task="changes", gate_multiple=3.0, feature_dim=32),
    ),
    Protocol(
        name="random-c3d-fid",
        summary="Frechet and kernel distance on an untrained network: no labels, no weights",
        metrics=_WITH_A_NETWORK,
        extractor="random-c3d",
        network=EXTRACTORS["random-c3d"],
        num_clips=1024,
    ),
    Protocol(
        name="stswd",
        summary="space-time sliced Wasserstein distance and appearance: no labels, no weights",
        metrics=_WEIGHT_FREE,
        extractor=None,
    ),
    Protocol(
        name="own-c2st",
        summary="how well a network tells generated from real clips; no single lost class is seen",
        metrics=("c2st_auc", "c2st_accuracy"),
        extractor=None,
        max_groups=1,
        source="Lopez-Paz and Oquab 2017 (arXiv:1610.06545), with 2 folds, 2 seeds and intervals.",
    ),
]

_C3D_SCORES = [
    Protocol(
        name="tgan-is-9984x4-64px",
        summary="Inception Score as TGAN measures it: C3D, 9,984 clips, 4 times",
        metrics=("inception_score",),
        extractor="c3d-tgan-fc6",
        network=EXTRACTORS["c3d-tgan-fc6"],
        resolution=64,
        quantise=False,
        num_clips=39_936,
        set_size=9984,
        log_guard=1e-7,
        source="pfnet-research/tgan, evaluation: 208 batches of 48 clips for each of 4 seeds.",
        frames=16,
    ),
    Protocol(
        name="tgan2-is-2048x10",
        summary="Inception Score as TGANv2 measures it: C3D at 112 pixels, 2,048 clips, 10 times",
        metrics=("inception_score",),
        extractor="c3d-tgan2-fc7",
        network=EXTRACTORS["c3d-tgan2-fc7"],
        quantise=False,
        num_clips=20_480,
        set_size=2048,
        max_groups=10,
        log_guard=1e-20,
        source="pfnet-research/tgan2: the mean clip is not centred there, and is not here.",
        frames=16,
    ),
    Protocol(
        name="styleganv-isv2048x10splits",
        summary="Inception Score as StyleGAN-V measures it: 2,048 clips in 10 splits",
        metrics=("inception_score",),
        extractor="c3d-tgan2-fc7",
        network=EXTRACTORS["c3d-tgan2-fc7"],
        num_clips=2048,
        set_size=2048,
        max_groups=1,
        splits=10,
        source="universome/stylegan-v, isv2048_ucf. It splits after a shuffle by NumPy's generator "
        "with seed 42 and gives NaN for a probability of 0; here clips are in the order of their "
        "seeds, and p log p is 0 there.",
        frames=16,
    ),
    Protocol(
        name="thesis-fid-c3d-fc6-10k-128px",
        summary="Frechet distance on C3D fc6 as in the thesis on Progressive Video GAN",
        metrics=("frechet_distance",),
        extractor="c3d-tgan-fc6",
        network=EXTRACTORS["c3d-tgan-fc6"],
        resolution=128,
        quantise=False,
        num_clips=10_000,
        set_size=10_000,
        max_groups=1,
        source="Acharya 2018. Its mean clip, its number of real clips and whether fc6 stands "
        "before or after the ReLU are not known, so its figures cannot be repeated.",
        frames=16,
    ),
    Protocol(
        name="tgan2-fid-c3d-fc7-2048x10",
        summary="Frechet distance on C3D fc7 as TGANv2 measures it, 2,048 clips, 10 times",
        metrics=("frechet_distance",),
        extractor="c3d-tgan2-fc7",
        network=EXTRACTORS["c3d-tgan2-fc7"],
        quantise=False,
        num_clips=20_480,
        set_size=2048,
        max_groups=10,
        allow_few=True,
        reference_rule="whole split",
        max_train_clips=0,
        source="pfnet-research/tgan2: real moments of 10 augmented passes over the training "
        f"videos; 2,048 clips in 4,096 features are mostly sampling noise. {_WINDOW}",
        frames=16,
    ),
]

_FVD_TF = _FVD(
    name="fvd-tf-16f",
    summary="FVD as the reference script measures it: TensorFlow 1 grid, stretched to 224",
    extractor="i3d-tf",
    network=EXTRACTORS["i3d-tf"],
    source="google-research frechet_video_distance, which leaves the numbers of clips to its "
    f"caller. {_WINDOW}",
)
_FVD_STYLEGAN_V = _FVD(
    name="fvd-styleganv-2048-16f-shuffled",
    summary="FVD of 2,048 16-frame clips as StyleGAN-V measures it, real clips shuffled",
    extractor="i3d-stretch",
    network=EXTRACTORS["i3d-stretch"],
    covariance_divisor="n",
    source="universome/stylegan-v, fvd2048_16f. It takes the first 2,048 real videos in sorted "
    f"order, one random window each, and its network resizes by itself. {_WINDOW}",
)
_FVD_DIGAN = _FVD(
    name="fvd-digan-2048x10-16f",
    summary="FVD as DIGAN measures it: shorter side to 224, centre crop, 2,048 clips, 10 times",
    extractor="i3d-crop",
    network=EXTRACTORS["i3d-crop"],
    clip_rule="random window of every clip",
    rounding="down",
    num_clips=20_480,
    max_groups=10,
    source="sihyun-yu/digan, which draws other real clips for each of the 10 times; here they are "
    "the same.",
)
_FVD_TATS = _FVD(
    name="fvd-tats-2048-16f",
    summary="FVD as TATS measures it: half-pixel bilinear, stretched to 224, 2,048 clips",
    extractor="i3d-stretch-pytorch",
    network=EXTRACTORS["i3d-stretch-pytorch"],
    clip_rule="random window of every clip",
    rounding="down",
    source="songweige/TATS: the first 2,048 of all windows of the training videos in random order, "
    "several of a video among them; here one window of each.",
)
_FEW = "256 clips in 400 features are mostly sampling noise."

_I3D_SCORES = [
    _FVD_TF,
    _FVD_STYLEGAN_V,
    replace(
        _FVD_STYLEGAN_V,
        name="fvd-styleganv-2048-128f-shuffled",
        summary="FVD of 2,048 128-frame clips as StyleGAN-V measures it, real clips shuffled",
        frames=128,
        source="universome/stylegan-v, fvd2048_128f.",
    ),
    replace(
        _FVD_STYLEGAN_V,
        name="fvd-styleganv-2048-128f-s8-shuffled",
        summary="FVD of every 8th of 128 frames as StyleGAN-V measures it, real clips shuffled",
        frames=128,
        frame_step=8,
        source="universome/stylegan-v, fvd2048_128f_subsample8f.",
    ),
    _FVD_OF_256(
        name="fvd-videogpt-256x4-16f",
        summary="FVD as VideoGPT measures it: 256 against 256 test clips, 4 times, centre crop",
        extractor="i3d-crop",
        network=EXTRACTORS["i3d-crop"],
        rounding="down",
        num_clips=1024,
        set_size=256,
        max_groups=4,
        source=f"wilson1yan/VideoGPT, scripts/compute_fvd.py. {_FEW} {_WINDOW}",
    ),
    _FVD_OF_256(
        name="fvd-bair-256",
        summary="FVD of 25,600 clips against 256 test clips, as customary for BAIR",
        extractor="i3d-tf",
        network=EXTRACTORS["i3d-tf"],
        clip_rule="first window of every clip",
        num_clips=25_600,
        set_size=25_600,
        frames=0,
        source="As google-research/magvit counts: 100 continuations of every test video, 4 times "
        f"there. {_FEW} Of a model that continues clips new frames alone are compared, and clips "
        "of another length make another metric.",
    ),
    _FVD_DIGAN,
    replace(
        _FVD_DIGAN,
        name="kvd-i3d-poly3",
        summary="unbiased kernel distance on I3D logits, kernel (a.b / 400 + 1)^3, as DIGAN",
        metrics=("kernel_distance",),
        source="sihyun-yu/digan, all pairs, no subsets, beside its FVD and on the same clips.",
    ),
    _FVD_TATS,
    replace(
        _FVD_TATS,
        name="kvd-tats-2048-16f",
        summary="unbiased kernel distance on I3D logits as TATS measures it",
        metrics=("kernel_distance",),
    ),
    _FVD(
        name="fvd-magvit-10000x4-16f",
        summary="FVD as MAGVIT measures it: TensorFlow 1 grid, 10,000 clips, 4 times, not rounded",
        extractor="i3d-tf",
        network=EXTRACTORS["i3d-tf"],
        clip_rule="random window of every clip",
        quantise=False,
        num_clips=40_000,
        set_size=10_000,
        max_groups=4,
        reference_size=0,
        reference_rule="whole split",
        max_train_clips=0,
        source="google-research/magvit: each of the 4 times meets 10,000 random windows of the "
        "training videos, which are cropped at random; here one random window of every clip.",
    ),
    replace(
        _FVD_TF,
        name="fvd-cdfvd-i3d",
        summary="FVD as cd-fvd measures it on I3D: half-pixel bilinear, stretched to 224",
        extractor="i3d-stretch-pytorch",
        network=EXTRACTORS["i3d-stretch-pytorch"],
        covariance_divisor="n",
        reference_size=0,
        reference_rule="whole split",
        max_train_clips=0,
        source="songweige/content-debiased-fvd: all real clips by default. It counts clips twice "
        f"if there are fewer than 2,048; here that is refused. {_WINDOW}",
    ),
]

_DVD_GAN = (
    "Clark et al. 2019. Numbers of clips are not printed; the reference is the whole training set. "
    "Clips of another length make another metric."
)
_OTHERS = [
    Protocol(
        name="dvdgan-fid-k600-avgpool",
        summary="Frechet distance on I3D (Kinetics-600) average pool as DVD-GAN measures it",
        metrics=("frechet_distance",),
        extractor="i3d-k600",
        network=EXTRACTORS["i3d-k600"],
        num_clips=10_000,
        set_size=10_000,
        max_groups=1,
        reference_rule="whole split",
        max_train_clips=0,
        source=_DVD_GAN,
    ),
    Protocol(
        name="dvdgan-is-k600",
        summary="Inception Score by I3D (Kinetics-600) as DVD-GAN measures it",
        metrics=("inception_score",),
        extractor="i3d-k600",
        network=EXTRACTORS["i3d-k600"],
        num_clips=10_000,
        set_size=10_000,
        max_groups=1,
        source=_DVD_GAN,
    ),
    _OF_FRAMES(
        name="frame-fid-tf",
        summary="FID and Inception Score of single frames, one a clip, TensorFlow 1 grid",
        extractor="inception-tf",
        network=EXTRACTORS["inception-tf"],
        source="Heusel et al. 2017, on one frame of each clip: frames of one video are not "
        "independent.",
    ),
    _OF_FRAMES(
        name="frame-fid-clean",
        summary="FID and Inception Score of single frames, one a clip, Pillow's cubic kernel",
        extractor="inception-clean",
        network=EXTRACTORS["inception-clean"],
        source="Parmar et al. 2022, on one frame of each clip.",
    ),
    _OF_FRAMES(
        name="frame-fid-styleganv-3125x16",
        summary="FID of all 50,000 frames of 3,125 clips as StyleGAN-V measures it",
        extractor="inception-tf",
        network=EXTRACTORS["inception-tf"],
        source=f"universome/stylegan-v, fid50k_full. {_WINDOW}",
        metrics=("frechet_distance",),
        frame_rule="all frames",
        frames=16,
        num_clips=3125,
        set_size=3125,
        covariance_divisor="n",
        reference_rule="whole split",
        max_train_clips=0,
    ),
    _OF_FRAMES(
        name="frame-kid-styleganv-3125x16",
        summary="KID of all 50,000 frames of 3,125 clips as StyleGAN-V measures it",
        extractor="inception-tf",
        network=EXTRACTORS["inception-tf"],
        kernel=KernelRule(subsets=100, subset_size=1000),
        source=f"universome/stylegan-v, kid50k_full, not multiplied by 1,000. {_WINDOW}",
        metrics=("kernel_distance",),
        frame_rule="all frames",
        frames=16,
        num_clips=3125,
        set_size=3125,
        reference_rule="whole split",
        max_train_clips=0,
    ),
    Protocol(
        name="jedi-vjepa-5000",
        summary="JEDi of 5,000 clips on given features (V-JEPA ViT-H/16, 1,280 numbers)",
        metrics=("jedi",),
        extractor="given",
        given_features="V-JEPA ViT-H/16 with the attentive probe of SSv2, 1,280 numbers a clip",
        num_clips=5000,
        set_size=5000,
        max_groups=1,
        reference_size=5000,
        source="Luo et al. 2024. The features come from another program as .npy files.",
    ),
    Protocol(
        name="cdfvd-videomae-ssv2g",
        summary="content-debiased FVD on given features (VideoMAE-v2 ViT-g, 1,408 numbers)",
        metrics=("frechet_distance",),
        extractor="given",
        given_features="VideoMAE-v2 ViT-g (SSv2), mean token after the norm, 1,408 numbers a clip",
        num_clips=2048,
        set_size=2048,
        max_groups=1,
        covariance_divisor="n",
        source="Ge et al. 2024. The features come from another program as .npy files.",
    ),
    Protocol(
        name="prediction",
        summary="PSNR, SSIM, LPIPS of continued clips beside baselines: made by vidgan predict",
        metrics=("psnr", "ssim", "lpips", "frechet_distance"),
        extractor="own-c3d",
        num_clips=500,
        source="PSNR of every frame, at most 100 dB; SSIM with an 11x11 Gaussian window, sigma "
        "1.5, biased moments, valid places; LPIPS 0.1 with weights of the user (lpips=alex); means "
        "over frames, samples, clips, and best of k.",
    ),
    Protocol(
        name="prediction-best-of-100",
        summary="best of 100 continuations of 256 clips by PSNR, SSIM, LPIPS (vidgan predict)",
        metrics=("psnr", "ssim", "lpips"),
        extractor=None,
        num_clips=256,
        source="Denton and Fergus 2018 (arXiv:1802.07687) and those who follow them: for every "
        "clip and measure the sample with the best mean over frames; measures as in prediction.",
    ),
]

DESCRIPTIONS = ("summary", "source", "given_features")
"""Descriptive fields."""

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (*_OWN, *_C3D_SCORES, *_I3D_SCORES, *_OTHERS)
}


def protocol_id(protocol: Protocol) -> str:
    """The registered name, or `custom:<hash>` once any field differs from it."""
    known = PROTOCOLS.get(protocol.name)
    if known is not None:
        for metrics in (known.metrics, *EARLIER_METRICS.get(protocol.name, ())):
            summary = known.summary if metrics == known.metrics else protocol.summary
            if protocol == replace(known, metrics=metrics, summary=summary):
                return protocol.name
    return custom_id(asdict(protocol))


def protocol_record(protocol: Protocol) -> dict[str, Any]:
    """Identity and every field as plain values, as a file gives them back."""
    return {"id": protocol_id(protocol), **to_dict(protocol)}


def default_protocol(classes: Sequence[str]) -> str:
    """The protocol that suits data with these classes: own-c3d, or own-ssl without any."""
    return "own-c3d" if len(classes) > 1 else "own-ssl"


def find_protocol(name: str | Protocol) -> Protocol:
    """The registered protocol of this name; a `Protocol` is checked and passed through.

    Raises:
        UserError: no such name, or fields without effect.
    """
    if isinstance(name, Protocol):
        return _checked(name)
    if name not in PROTOCOLS:
        raise UserError(
            f"there is no evaluation protocol {name!r}; vidgan evaluate --list names them all, "
            "among them own-c3d, random-c3d-fid and stswd, which need no weights"
        )
    return PROTOCOLS[name]


def _checked(protocol: Protocol) -> Protocol:
    """Refuse values out of range, and descriptions of another procedure.

    So a record's protocol is what was computed: name, summary and source are
    those of a registered protocol, and `protocol_id` marks a changed one.
    """
    origin = PROTOCOLS.get(protocol.name)
    if origin is None:
        raise UserError(
            f"there is no evaluation protocol {protocol.name!r}: a protocol with fields of your "
            "own keeps the name of the one it was made from, and its record calls it custom:<hash>"
        )
    for field in DESCRIPTIONS:
        if getattr(protocol, field) != getattr(origin, field):
            raise UserError(
                f"protocol {protocol.name}: {field} describes the protocol and moves nothing: "
                "leave it as it is"
            )
    from_dict(Protocol, to_dict(protocol), f"protocol {protocol.name}")
    return protocol


def changed_protocol(name: str | Protocol, words: Sequence[str]) -> Protocol:
    """A protocol with fields of one's own, which makes it a custom one.

    Args:
        name: of a registered protocol.
        words: `field=value` or `section.field=value`, such as `num_clips=256`.

    Raises:
        UserError: no such name or field, or a value that does not fit.

    Example:
        >>> changed_protocol("stswd", ["num_clips=64"]).num_clips
        64
    """
    protocol = find_protocol(name)
    fields = apply_overrides(to_dict(protocol), words)
    return _checked(from_dict(Protocol, fields, f"protocol {protocol.name}"))


def describe_protocol(name: str | Protocol) -> str:
    """Every field of a protocol, a line each; those of a section are indented."""
    protocol = find_protocol(name)
    lines = [f"{protocol_id(protocol)}: {protocol.summary}"]

    def add(fields: Mapping[str, Any], indent: str) -> None:
        width = max(len(key) for key in fields)
        for key, value in fields.items():
            if isinstance(value, Mapping):
                lines.append(f"{indent}{key}")
                add(value, indent + "  ")
            else:
                text = ", ".join(map(str, value)) if isinstance(value, list) else value
                lines.append(f"{indent}{key:<{width}}  {'-' if text in (None, '') else text}")

    add({k: v for k, v in to_dict(protocol).items() if k not in ("name", "summary")}, "  ")
    return "\n".join(lines)


def list_protocols() -> list[tuple[str, str]]:
    """Name and summary of every registered protocol, those without weights first."""
    return [(name, protocol.summary) for name, protocol in PROTOCOLS.items()]
