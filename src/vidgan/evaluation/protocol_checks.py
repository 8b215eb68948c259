"""Refusing what a protocol cannot compare, before anything is generated or extracted."""

from collections.abc import Sequence
from pathlib import Path

from vidgan.errors import UserError
from vidgan.evaluation.metric import Protocol, find_metric
from vidgan.evaluation.protocols import protocol_id
from vidgan.extractors.extractor import MEAN_WEIGHTS
from vidgan.extractors.weights.store import weights_path


def check_protocol(protocol: Protocol, weights: str | Path | None = None) -> None:
    """Refuse protocols that `evaluate` does not serve, or whose weights are not there.

    Args:
        protocol: as it is applied.
        weights: folder of converted weights; None takes the user's.

    Raises:
        UserError: as said.
    """
    name, network = protocol_id(protocol), protocol.network
    if any(find_metric(key).needs == "pairs" for key in protocol.metrics):
        raise UserError(
            f"protocol {name} compares clips with their true continuation: use vidgan predict"
        )
    if protocol.extractor == "given":
        raise UserError(
            f"protocol {name} compares features that another program stored "
            f"({protocol.given_features}): use vidgan.evaluation.given_features.score_features"
        )
    if network is None or network.weights is None:
        return
    needs_mean = network.preprocessing is not None and network.preprocessing.mean_corner is not None
    for file in [network.weights, *([MEAN_WEIGHTS] if needs_mean else [])]:
        path = weights_path(file, weights)
        if not path.exists():
            raise UserError(
                f"protocol {name} needs the published weights {file}, and there is no {path}: "
                "'vidgan weights list' says where to get the file and under which terms, "
                "'vidgan weights convert FILE' puts it there"
            )


def check_clip_shape(protocol: Protocol, shape: Sequence[int]) -> None:
    """Refuse clips of another length or size than the protocol compares.

    Args:
        protocol: as it is applied.
        shape: (C, T, H, W) of the clips.

    Raises:
        UserError: as said.
    """
    name, (_, frames, height, width) = protocol_id(protocol), shape
    if protocol.frames and frames != protocol.frames:
        raise UserError(
            f"protocol {name} compares clips of {protocol.frames} frames and these have {frames}: "
            "take a generator of that length, or another protocol"
        )
    if protocol.resolution and (height, width) != (protocol.resolution,) * 2:
        raise UserError(
            f"protocol {name} compares clips of {protocol.resolution}x{protocol.resolution} pixels "
            f"and these have {height}x{width}: take a generator of that size, or another protocol"
        )


def check_real_clips(protocol: Protocol, num_train: int, clip_rule: str) -> None:
    """Refuse real clips that were chosen in another way than the protocol says.

    Args:
        protocol: as it is applied.
        num_train: training clips.
        clip_rule: which frames of longer stored clips they are.

    Raises:
        UserError: as said.
    """
    if clip_rule != protocol.clip_rule:
        raise UserError(
            f"protocol {protocol_id(protocol)} has clip_rule={protocol.clip_rule!r} and these real "
            f"clips are the {clip_rule}: gather them under this protocol"
        )
    if 0 < protocol.max_train_clips < num_train:
        raise UserError(
            f"protocol {protocol_id(protocol)} has max_train_clips={protocol.max_train_clips} and "
            f"these are {num_train}: gather them under this protocol"
        )
