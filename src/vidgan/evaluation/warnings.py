"""What a reader of scores has to know, a sentence each."""

from typing import Any

from vidgan.evaluation.record import TITLES

CLEAR = 0.02
"""Share of the way from real clips to the ceiling by which shuffled frames have to stand out."""

SUSPICIOUS = 0.5
"""Generated clips this much nearer to the reference than real ones are hardly new."""

Scores = dict[str, dict[str, Any]]


def score_warnings(scores: Scores) -> list[str]:
    """Sentences on scores that do not stand where they should: floor < generated < ceiling.

    The ceiling is the lower one of noise and mean clip: which of them is worse depends on the
    network, and a generator has to beat both.
    """
    warnings = []
    for key, entry in scores.items():
        if entry["better"] == "lower":
            warnings += _controls_out_of_order(key, entry) or _generated_out_of_order(key, entry)
    sizes = {entry["n_real"] for entry in scores.values() if "n_real" in entry}
    if sizes:
        count = next(iter(scores.values()))["n"]
        warnings.append(
            f"there are too few real clips for sets of {count}: real reference, floor and controls "
            f"hold {min(sizes)}, and a score moves with its number of clips"
        )
    return warnings


def _controls_out_of_order(key: str, entry: dict[str, Any]) -> list[str]:
    """Damaged real clips that are not told from whole ones."""
    controls, name = entry["controls"], TITLES[key]
    best, shuffled = max(entry["real"], entry["floor"]), controls["shuffled"]
    ceiling = min(controls["noise"], controls["mean clip"])
    sentences = []
    if ceiling <= best:
        sentences.append(
            f"{name}: the controls are out of order, real clips are at {best:.4g} and noise or the "
            f"mean clip at {ceiling:.4g}: this score cannot tell them apart here"
        )
    elif shuffled < best + CLEAR * (ceiling - best):
        sentences.append(
            f"{name}: real clips with shuffled frames are at {shuffled:.4g} and whole ones at "
            f"{best:.4g}: this score says nothing of motion here"
        )
    return sentences


def _generated_out_of_order(key: str, entry: dict[str, Any]) -> list[str]:
    """Generated clips at or above the ceiling, half way to it, or suspiciously good."""
    controls, name, value = entry["controls"], TITLES[key], entry["value"]
    ceiling = min(controls["noise"], controls["mean clip"])
    best = min(entry["floor"], entry["real"])
    sentences = []
    if value > ceiling:
        sentences.append(
            f"{name}: generated clips ({value:.4g}) are worse than noise or the mean clip "
            f"({ceiling:.4g}): the generator has not learned the data"
        )
    elif key == "frechet_distance" and value > 0.5 * ceiling:
        sentences.append(
            "the Frechet distance is above half of that of noise or of the mean clip: the "
            "generator has not learned the data"
        )
    # A kernel distance is near 0, or below it, for any clips of the same law.
    elif value < SUSPICIOUS * best and key != "kernel_distance":
        sentences.append(
            f"{name}: generated clips ({value:.4g}) are nearer to the reference than other real "
            f"clips ({best:.4g}): look for copied training clips"
        )
    return sentences
