"""One list of hostile texts, in every form that anything is written in."""

import csv
import html.parser
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vidgan.cli import main as cli
from vidgan.cli.common import print_lines, print_table
from vidgan.core.escaping import csv_cell, latex, latex_comment, markdown, terminal
from vidgan.report.comparison import FORMS, Cell, Column, Comparison, Row, Table

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% for x in y %}",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "http://evil.example/?q=1",
    "a|b|c",
    "`code` **bold** _it_ ~~no~~",
    "# heading",
    "- item",
    "\n\n# heading\n\n<b>",
    "```\nblock",
    "[ref]: http://evil.example",
    r"\input{/etc/passwd}",
    "x\n\\input{/etc/passwd}",
    "x\r\\write18{touch /tmp/x}",
    "x\x85\\immediate\\write18{id}",
    "x\u2028\\input{x}",
    r"^^5cinput{/etc/passwd}",
    "100% & more $x^2$ #1 {a} ~b",
    "[1em] text",
    "*text",
    "=cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    " =1+1",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\uff1d1+1",
    'a","=1+1',
    "a\n=1+1",
    "red\x1b[31m",
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "back\x08\x08\x08space",
    "up\rover",
    "nul\0",
    "right\u202eleft",
    "hidden\u200b\u2066x",
    "broken\udcff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_terminals_obey_nothing(text: str) -> None:
    shown = terminal(text)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert terminal(shown) == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_is_text_of_one_line(text: str) -> None:
    shown = markdown(text)
    assert "\n" not in shown
    assert shown.isprintable()
    assert "<" not in shown
    assert "://" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_|\[\]~]", shown)
    assert shown[:1] not in set("#+-=!:")


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_runs_nothing(text: str) -> None:
    shown = latex(text)
    assert shown.isprintable()
    commands = set(re.findall(r"\\([A-Za-z]+)", shown))
    assert commands <= {
        "textbackslash",
        "textasciitilde",
        "textasciicircum",
        "textless",
        "textgreater",
    }
    assert not re.search(r"(?<!\\)[%$#&_^~]", shown)
    assert not shown.startswith(("[", "*"))
    assert latex_comment(text).startswith("% ")
    assert latex_comment(text).isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_spreadsheets_compute_nothing(text: str) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([csv_cell(text), csv_cell(1.5), csv_cell(-2), csv_cell(None)])
    ((first, *others),) = csv.reader(io.StringIO(buffer.getvalue()))
    assert first.isprintable()
    assert not first.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\t", "\r"))
    assert others == ["1.5", "-2", ""]


def comparison(text: str) -> Comparison:
    """A comparison in which every word is the text."""
    column = Column(title=text, better=text, real=0.5, floor=0.1, controls={text: 0.9})
    row = Row(label=text, facts={text: text}, cells=(Cell(values=(0.25,)),), remarks=(text,))
    table = Table(
        basis={"Protocol": text, text: text},
        differs=(text,),
        columns=(column,),
        rows=(row, replace(row, label="other")),
        sentence=text,
    )
    facts = {text: text}
    return Comparison(title=text, tables=(table,), facts=facts, left_out=(text,))


class Tags(html.parser.HTMLParser):
    """What elements and attributes a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def tags_of(page: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = Tags()
    parser.feed(page)
    return parser.found


@pytest.mark.parametrize("text", HOSTILE)
def test_comparisons_in_every_form_hold_text_alone(text: str) -> None:
    plain, hostile = comparison("word"), comparison(text)
    page = FORMS[".html"](hostile)
    assert tags_of(page) == tags_of(FORMS[".html"](plain))
    assert all(line.isprintable() for line in page.replace("\t", " ").split("\n"))
    written = {form: FORMS[form](hostile) for form in (".md", ".csv", ".tex")}
    for form, content in written.items():
        assert content.count("\n") == FORMS[form](plain).count("\n")
        assert all(line.isprintable() for line in content.splitlines())
    for line in written[".tex"].splitlines():
        assert not re.search(r"\\(?:input|write|immediate)", line.partition("%")[0])
    for row in csv.reader(io.StringIO(written[".csv"])):
        assert not any(cell.startswith(("=", "+", "@")) for cell in row)


def test_what_is_printed_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    for text in HOSTILE:
        print_lines(text)
        print_table([{"name": text}], ["name"])
        cli.complain(text, 2)
    said = capsys.readouterr()
    for line in (said.out + said.err).split("\n"):
        assert line.isprintable()


def test_verbs_print_by_one_function() -> None:
    folder = Path(cli.__file__).parent
    direct = re.compile(r"(?<![\w.])print\((?!json|printable)")
    found = {path.name for path in folder.glob("*.py") if direct.search(path.read_text())}
    assert found == {"common.py", "main.py"}  # main.py prints its own words


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_typesets_the_list(tmp_path: Path) -> None:
    body = FORMS[".tex"](comparison("\n".join(HOSTILE)))
    document = f"\\documentclass{{article}}\\begin{{document}}{body}\\end{{document}}"
    (tmp_path / "x.tex").write_text(document)
    subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "x.tex"], cwd=tmp_path, check=True, timeout=60
    )
