"""All settings of the face pipeline in one place; each group stands beside what it configures."""

from dataclasses import dataclass, field

from vidgan.errors import UserError
from vidgan.films.faces.align import AlignConfig
from vidgan.films.faces.detect import FaceConfig
from vidgan.films.faces.landmarks import LandmarkConfig
from vidgan.films.faces.persons import PersonConfig
from vidgan.films.faces.shots import ShotConfig


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Which clips are written, and how.

    Attributes:
        min_frames: Shortest clip; 32 frames is what the thesis' largest network learns from.
        lossless: Store pixels exactly (RGB H.264, which browsers do not play), ten times larger.
        quality: x264 rate factor otherwise; 12 keeps compression below what a discriminator sees.
        heldout_fraction: Share of the films whose clips are held out, all clips of a film
            together; the draw depends on the film's name alone.
        max_corrupt_share: Films with a greater share of damaged frames are refused.
    """

    min_frames: int = 32
    lossless: bool = False
    quality: int = 12
    heldout_fraction: float = 0.1
    max_corrupt_share: float = 0.5

    def __post_init__(self) -> None:
        if self.min_frames < 2 or not 0 <= self.quality <= 51:
            raise UserError("clips.min_frames must be at least 2 and clips.quality 0 to 51")
        if not 0 <= self.heldout_fraction < 1 or not 0 <= self.max_corrupt_share <= 1:
            raise UserError(
                "clips.heldout_fraction must be at least 0 and below 1,"
                " clips.max_corrupt_share 0 to 1"
            )


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """Settings of `vidgan data faces`.

    Attributes:
        shots: Cutting films into shots.
        faces: Finding and following faces.
        landmarks: Their landmarks.
        align: Aligned frames.
        person: The check that a clip shows one person.
        clips: What is written.
    """

    shots: ShotConfig = field(default_factory=ShotConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    landmarks: LandmarkConfig = field(default_factory=LandmarkConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    person: PersonConfig = field(default_factory=PersonConfig)
    clips: ClipConfig = field(default_factory=ClipConfig)
