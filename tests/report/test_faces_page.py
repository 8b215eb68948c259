"""The page of a build of face clips: self-contained, escaped, right proportions."""

import re
from html.parser import HTMLParser

from vidgan.report.page import FacesPage, faces_page

PAGE = FacesPage(
    title="Face clips: <b>films</b>",
    facts={"Films": "3"},
    groups=[
        [
            {"what": "films", "count": 4, "dropped": {}},
            {"what": "films read", "count": 3, "dropped": {"films <unusable>": 1}},
        ],
        [{"what": "clips", "count": 8, "dropped": {}}],
    ],
    lengths={"30-33": 6, "34-39": 2},
    thesis={"30-33": 1000, "34-39": 1000},
    failed=[("<script>alert(1)</script>.mp4", "no\nvideo")],
    sheets=[{"film": "a&b.mp4", "content": b"\xff\xd8jpeg"}],
    num_sheets=7,
    settings={"align": {"size": 300}, "landmarks": {"model": ""}},
    command="vidgan data faces films out",
)


class Tags(HTMLParser):
    """Opened and closed tags in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_escaped_and_alone() -> None:
    html = faces_page(PAGE)
    tags = Tags()
    tags.feed(html)
    assert not tags.open
    assert all(link.startswith("data:") for link in tags.links)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.mp4" in html
    assert "films &lt;unusable&gt;" in html
    assert "a&amp;b.mp4" in html
    assert "data:image/jpeg;base64,/9hqcGVn" in html
    assert "1 of 7 films with clips" in html
    assert "align.size" in html


def test_bars_are_shares_of_their_group_and_histogram() -> None:
    html = faces_page(PAGE)
    assert re.findall(r'class="share"><i style="width: ([\d.]+)%', html) == [
        "100.00",
        "75.00",
        "100.00",
    ]
    heights = re.findall(r'<i style="height: ([\d.]+)%', html)
    # 75 and 25 % of ours, 50 and 50 % of theirs, on the scale of the highest.
    assert heights == ["100.00", "66.67", "33.33", "66.67"]


def test_empty_pages_say_little() -> None:
    html = faces_page({"title": "nothing"})
    assert "<h1>nothing</h1>" in html
    assert "<h2>" not in html
