"""The feature store: once, in parts, after crashes, by several processes, and never in silence."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vidgan.core.distributed import Processes
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.extractors import feature_store
from vidgan.extractors.feature_store import Arrays, FeatureStore, read_features
from vidgan.metrics.statistics import FeatureStatistics

FACTS = {"extractor": "mean colour", "clips": "abc"}
CLIPS = torch.randint(256, (23, 3, 2, 4, 4), generator=keyed_rng("store clips"), dtype=torch.uint8)


def read(start: int, stop: int) -> Tensor:
    return CLIPS[start:stop]


def mean_colour(clips: Tensor) -> Arrays:
    features = clips.float().mean((2, 3, 4))
    return {"features": features, "probabilities": features.softmax(1)}


EXPECTED = mean_colour(CLIPS)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "PART_CLIPS", 5)


class Counting:
    """Extracts, counts clips, and breaks down after so many calls."""

    def __init__(self, calls: int = 1000) -> None:
        self.calls, self.clips = calls, 0

    def __call__(self, clips: Tensor) -> Arrays:
        if self.calls == 0:
            raise KeyboardInterrupt
        self.calls -= 1
        self.clips += len(clips)
        return mean_colour(clips)


def test_features_are_extracted_once(tmp_path: Path) -> None:
    store, extract = FeatureStore(tmp_path / "deep" / "store"), Counting()
    told: list[tuple[int, int]] = []
    first = store.obtain(
        FACTS, 23, read, extract, progress=lambda done, of: told.append((done, of))
    )
    again = store.obtain(FACTS, 23, read, extract)
    assert extract.clips == 23
    assert told[-1] == (23, 23)
    for found in (first, again):
        assert found.kinds == ("features", "probabilities")
        for kind in found.kinds:
            assert torch.equal(found.array(kind), EXPECTED[kind])
    assert sorted(path.name for path in first.folder.iterdir()) == [
        "features.npy",
        "manifest.json",
        "probabilities.npy",
    ]
    manifest = json.loads((first.folder / "manifest.json").read_text())
    assert (manifest["facts"], manifest["count"]) == (FACTS, 23)
    assert np.load(first.folder / "features.npy").dtype == np.float32


def test_other_facts_are_another_set(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.obtain(FACTS, 23, read, mean_colour)
    assert store.find({**FACTS, "clips": "other"}) is None
    other = store.obtain({**FACTS, "clips": "other"}, 4, read, mean_colour)
    assert other.array().shape == (4, 3)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_broken_off_extraction_continues(tmp_path: Path) -> None:
    store, broken, rest = FeatureStore(tmp_path), Counting(calls=3), Counting()
    with pytest.raises(KeyboardInterrupt):
        store.obtain(FACTS, 23, read, broken)
    assert store.find(FACTS) is None
    found = store.obtain(FACTS, 23, read, rest)
    assert (broken.clips, rest.clips) == (15, 8)
    assert torch.equal(found.array(), EXPECTED["features"])


def test_a_crash_between_arrays_and_manifest_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: Path, value: object) -> None:
        raise OSError("no space left on device")

    store, extract = FeatureStore(tmp_path), Counting()
    with monkeypatch.context() as patch:
        patch.setattr(feature_store, "write_json_atomically", full_disk)
        with pytest.raises(OSError, match="no space"):
            store.obtain(FACTS, 23, read, extract)
    assert torch.equal(store.obtain(FACTS, 23, read, extract).array(), EXPECTED["features"])
    assert extract.clips == 23


def test_moments_equal_those_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "BLOCK", 7)
    found = FeatureStore(tmp_path).obtain(FACTS, 23, read, mean_colour).statistics()
    whole = FeatureStatistics.of(EXPECTED["features"])
    assert found.count == 23
    torch.testing.assert_close(found.mean, whole.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(found.covariance, whole.covariance, rtol=1e-12, atol=1e-12)


def _work(rank: int, folder: str, counts: "multiprocessing.Queue[int]") -> None:
    feature_store.PART_CLIPS = 5
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    extract = Counting()
    found = FeatureStore(f"{folder}/store").obtain(
        FACTS, 23, read, extract, processes=Processes(rank=rank, count=2)
    )
    assert torch.equal(found.array(), EXPECTED["features"])
    counts.put(extract.clips)
    torch.distributed.destroy_process_group()


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    # A fork of a process whose threads have computed may hang.
    context = multiprocessing.get_context("forkserver")
    counts = context.Queue()
    workers = [context.Process(target=_work, args=(rank, str(tmp_path), counts)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=300)
    assert [worker.exitcode for worker in workers] == [0, 0]
    # Parts of 5, 5, 5, 5, 3 clips, every second one each.
    assert sorted(counts.get() for _ in workers) == [10, 13]


def test_damage_is_named(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    found = store.obtain(FACTS, 23, read, mean_colour)
    array = found.folder / "features.npy"
    values = np.load(array)
    np.save(array, values[:4])
    with pytest.raises(UserError, match=r"\[4, 3\].*manifest says float32 \[23, 3\]; delete"):
        found.array()
    array.write_bytes(b"no array")
    with pytest.raises(UserError, match="cannot be read"):
        found.array()
    with pytest.raises(UserError, match="and no logits"):
        found.array("logits")
    (found.folder / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest.json cannot be read.*delete"):
        store.find(FACTS)


def test_extractors_are_held_to_their_promise(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    with pytest.raises(ValueError, match="5 finite rows of features"):
        store.obtain(FACTS, 23, read, lambda clips: {"features": clips[:1].float()})
    with pytest.raises(ValueError, match="finite rows"):
        store.obtain(
            FACTS, 23, read, lambda clips: {"features": torch.full((len(clips), 2), float("nan"))}
        )


def test_features_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "vjepa.npy"
    np.save(path, np.arange(6.0).reshape(3, 2))
    found = read_features(path)
    assert (found.dtype, found.tolist()) == (torch.float64, [[0, 1], [2, 3], [4, 5]])
    np.save(path, np.arange(6.0, dtype=np.float16).reshape(3, 2))
    assert read_features(path).dtype == torch.float32
    for bad in (np.arange(3.0), np.zeros((2, 2), int), np.full((2, 2), np.inf)):
        np.save(path, bad)
        with pytest.raises(UserError, match=r"vjepa.npy must hold finite floats"):
            read_features(path)
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read as a NumPy array"):
        read_features(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_features(tmp_path / "gone.npy")
