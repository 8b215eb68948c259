"""The distance of real clips to themselves, on a published network of seeded weights."""

import pytest
import torch

from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.extractors.extractor import EXTRACTORS, load_extractor
from vidgan.metrics.frechet import frechet_from_features
from vidgan.metrics.statistics import FeatureStatistics


@pytest.mark.slow
def test_256_real_clips_are_at_no_distance_from_themselves() -> None:
    scene = MotionSettings(size=16, frames=16)
    clips = torch.stack([motion_clip(scene, i)[0] for i in range(256)])
    extractor = load_extractor(EXTRACTORS["random-i3d-64"])
    forwards, backwards = (extractor.arrays(part)["features"] for part in (clips, clips.flip(0)))
    assert forwards.shape == (256, 64)
    trace = float(FeatureStatistics.of(forwards).covariance.trace())
    assert trace > 0
    assert abs(frechet_from_features(forwards, backwards).distance) <= 1e-6 * trace
