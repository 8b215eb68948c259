"""The page of a run: self-contained, escaped, refreshing only while training."""

import base64
import re
from html.parser import HTMLParser
from typing import cast
from xml.etree import ElementTree

import pytest

from vidgan.report.page import (
    Medium,
    RunPage,
    RunProgress,
    ScoreTable,
    StageRow,
    Status,
    duration,
    flatten,
    number,
    run_page,
    setting,
)

VOID = {"meta", "link", "img", "br"}


class Checker(HTMLParser):
    """Collects tags and checks that every opened one is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


EVIL = "<script>alert(1)</script>"

SCORES: ScoreTable = {
    "protocol": "own-c3d-v1",
    "num_generated": 2048,
    "num_real": 96,
    "note": "own classifier, acc=0.98, not comparable with published scores",
    "rows": [
        {
            "metric": "Inception Score",
            "better": "higher",
            "value": 8.1234,
            "spread": 0.1,
            "real": 14.2,
            "floor": None,
            "controls": {"frozen frames": 3.25},
        },
        {"metric": "Frechet distance", "value": 120.5, "floor": 14.125},
    ],
}

STAGES: list[StageRow] = [
    {"frames": 4, "resolution": 8, "batch_size": 32, "start": 0, "fade": 0, "end": 9000},
    {"frames": 8, "resolution": 16, "batch_size": 16, "start": 9000, "fade": 4000, "end": 96000},
]

PROGRESS: RunProgress = {
    "step": 1500,
    "clips_seen": 24000,
    "total_clips": 96000,
    "remaining_seconds": 125.0,
    "clips_per_second": 61.5,
    "elapsed_seconds": 3725.0,
}


def example(status: Status = "training") -> RunPage:
    """A page with every part, and markup wherever somebody else's text may stand."""
    return {
        "title": f"run {EVIL}",
        "status": status,
        "model": "pvgan",
        "progress": PROGRESS,
        "alpha": 0.25,
        "level": 1,
        "stages": STAGES,
        "warnings": [f"2 videos {EVIL}"],
        "log": [
            {"step": i, "loss/generator": 1.0 / (i + 1), "discriminator/real": float("nan")}
            for i in range(500)
        ],
        "media": [
            {"title": "Generated", "caption": EVIL, "mime": "video/mp4", "content": b"\x00mp4"},
            {"title": "Walk", "mime": "image/png", "content": b"\x89PNG", "wide": True},
        ],
        "scores": [SCORES],
        "data": {
            "source": EVIL,
            "num_videos": 12,
            "num_clips": 10,
            "classes": {EVIL: 10},
            "dropped": [{"reason": "unreadable", "count": 2, "examples": [EVIL]}],
        },
        "settings": {"training": {"lr": 0.001, "betas": [0.0, 0.99], "note": EVIL}},
        "command": f"vidgan train {EVIL}",
        "written_at": 1.7e9,
    }


def test_everything_given_is_shown() -> None:
    text = " ".join(" ".join(parsed(run_page(example())).texts).split())
    for words in (
        "25 % \u00b7 24,000 of 96,000 clips",
        "2 min 5 s left",
        "2 of 2: 8\u00d716\u00d716",
        "0.25 (fading in)",
        "61.5 clips/s",
        "1 h 2 min",
        "own-c3d-v1 \u00b7 2,048 generated and 96 real clips",
        "Inception Score higher is better 8.123 \u00b1 0.1 14.2 \u2013 3.25",
        "Frechet distance 120.5 \u2013 14.12 own classifier",
        "not comparable with published scores",
        "unreadable 2",
        "training.betas [0, 0.99]",
    ):
        assert words in text, words


def test_every_text_is_escaped() -> None:
    html = run_page(example("done"))
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8
    assert run_page(example("training")).count("<script") == 1


def test_nothing_is_requested_from_elsewhere() -> None:
    html = run_page(example())
    for tag, attributes in parsed(html).seen:
        for name in ("src", "href", "poster", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp", html)
    assert "default-src 'none'" in html


def test_a_verdict_that_comes_too_early_is_told_without_praise() -> None:
    html = run_page({**example(), "doctor": {"verdict": "early", "step": 20, "num_looks": 1}})
    assert '<b class="verdict early">too early to tell</b>' in html
    assert re.search(r"\.verdict\.early \{ color: var\(--soft\); \}", html)


def test_videos_play_by_themselves_and_hold_the_given_bytes() -> None:
    seen = parsed(run_page(example())).seen
    (video,) = [attributes for tag, attributes in seen if tag == "video"]
    assert {"autoplay", "loop", "muted", "playsinline", "controls"} <= set(video)
    assert video["src"] == "data:video/mp4;base64," + base64.b64encode(b"\x00mp4").decode()
    (image,) = [attributes for tag, attributes in seen if tag == "img"]
    assert base64.b64decode((image["src"] or "").partition(",")[2]) == b"\x89PNG"
    assert image["alt"] == "Walk"


@pytest.mark.parametrize("status", ["waiting", "done", "interrupted", "unhealthy"])
def test_page_refreshes_only_while_training(status: Status) -> None:
    assert 'http-equiv="refresh"' in run_page(example())
    assert "location.reload" in run_page(example())
    quiet = run_page(example(status))
    assert "refresh" not in quiet
    assert "reload" not in quiet
    assert " s left" not in " ".join(" ".join(parsed(quiet).texts).split())


def test_small_media_stand_apart_behind_the_others() -> None:
    medium: Medium = {"title": "Now", "mime": "image/png", "content": b"x"}
    html = run_page({"media": [{**medium, "title": "Before", "small": True}, medium]})
    assert html.index("<h3>Now</h3>") < html.index('class="media history"')
    assert html.index('class="media history"') < html.index("<h3>Before</h3>")
    assert 'class="media history"' not in run_page({"media": [medium]})


def test_curves_are_well_formed_drawings_without_the_values_that_are_not_finite() -> None:
    drawings = re.findall(r"<svg.*?</svg>", run_page(example()), re.DOTALL)
    assert len(drawings) == 1
    paths = ElementTree.fromstring(drawings[0]).findall("path")
    assert [path.get("class") for path in paths] == ["band c0", "line c0"]


def test_any_part_may_be_missing() -> None:
    full = example()
    for key in full:
        rest = {name: value for name, value in full.items() if name != key}
        parsed(run_page(cast(RunPage, rest)))
        parsed(run_page(cast(RunPage, {key: full.get(key)})))
    assert "vidgan run" in run_page({})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (266400, "3 d 2 h"),
        (None, "unknown"),
        (float("inf"), "unknown"),
    ],
)
def test_durations_have_two_units(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "\u2013"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (12345.6, "12,346"),
        (0.00002, "2e-5"),
        (0.0, "0"),
        (True, "yes"),
        (float("nan"), "not finite"),
    ],
)
def test_numbers_are_short(value: object, words: str) -> None:
    assert number(value) == words


def test_settings_read_like_the_command_line() -> None:
    values = flatten({"a": {"b": 1, "c": {"d": [1.0, None, True]}}, "e": {}})
    assert {key: setting(value) for key, value in values.items()} == {
        "a.b": "1",
        "a.c.d": "[1, null, true]",
        "e": "{}",
    }
