"""The comparison of several systems: from plain values to HTML, Markdown, CSV or LaTeX."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vidgan.core.escaping import csv_cell, latex, latex_comment, markdown
from vidgan.report.page import Medium, number, template
from vidgan.report.remarks import of_systems

# ------------------------------------------------------------------------------------------------
# Published figures, with their protocols as far as known.
#
# They never share a table with our scores: each has its own protocol, and most of these
# protocols cannot be repeated.


@dataclass(frozen=True)
class Published:
    """One printed figure.

    Attributes:
        system: as the source names it.
        metric: what was measured, on which data.
        value: as printed.
        protocol: how, as far as the source says.
        source: where it is printed.
    """

    system: str
    metric: str
    value: str
    protocol: str
    source: str


_TGAN_IS = "C3D of TGAN, 9,984 clips x 4, one split; 64x64 frames enlarged to 128"
_THESIS_IS = "said to be TGAN's, at 128 px; mean file and weights of C3D are not known"
_THESIS_FID = "C3D fc6, 10,000 clips; number of real clips not stated"
_DVDGAN = "I3D trained on Kinetics-600, pooled features, whole training set as reference"
_THESIS = "Acharya, thesis, ETH Zurich 2018"
_DVDGAN_PAPER = "Clark et al. 2019, arXiv:1907.06571v1, as later papers quote it"

_HRVGAN = "table in its repository"
_DVDGAN_IS = "I3D trained on Kinetics-600, 600 classes, without truncation; clips not stated"
_DVDGAN_FVD = "I3D logits, 5 frames given, 11 predicted, test clips"

PUBLISHED = (
    Published("VGAN", "IS, UCF-101", "8.18", _TGAN_IS, _THESIS),
    Published("TGAN", "IS, UCF-101", "11.85 +- 0.07", _TGAN_IS, _THESIS),
    Published("MoCoGAN", "IS, UCF-101", "12.42 +- 0.03", _TGAN_IS, _THESIS),
    Published("Progressive Video GAN, WGAN-GP", "IS, UCF-101", "13.59", _THESIS_IS, _THESIS),
    Published("Progressive Video GAN, SWGAN", "IS, UCF-101", "14.56", _THESIS_IS, _THESIS),
    Published("real clips", "IS, UCF-101", "34.33", _TGAN_IS, _THESIS),
    Published("real clips", "IS, UCF-101", "83.18", _THESIS_IS, _THESIS),
    Published("HRVGAN", "IS, UCF-101", "14.29", "not stated", _HRVGAN),
    Published("VGAN", "FID, Golf", "113,007", _THESIS_FID, _THESIS),
    Published("TGAN", "FID, Golf", "112,029", _THESIS_FID, _THESIS),
    Published("Progressive Video GAN", "FID, Golf", "95,544", _THESIS_FID, _THESIS),
    Published("VGAN", "FID, Aeroplane", "149,094", _THESIS_FID, _THESIS),
    Published("TGAN", "FID, Aeroplane", "120,417", _THESIS_FID, _THESIS),
    Published("Progressive Video GAN", "FID, Aeroplane", "102,049", _THESIS_FID, _THESIS),
    Published("HRVGAN", "FID, Golf", "102,584", "not stated", _HRVGAN),
    Published("HRVGAN", "FID, Aeroplane", "104,036", "not stated", _HRVGAN),
    Published("DVD-GAN 12x64x64", "FID, Kinetics-600", "0.91", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 48x64x64", "FID, Kinetics-600", "12.92", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 12x128x128", "FID, Kinetics-600", "2.16", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 48x128x128", "FID, Kinetics-600", "31.50", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 12x256x256", "FID, Kinetics-600", "3.35", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 12x64x64", "IS, Kinetics-600", "61.10", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN 48x64x64", "IS, Kinetics-600", "97.62", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN 12x128x128", "IS, Kinetics-600", "55.09", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN 48x128x128", "IS, Kinetics-600", "111.19", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN 12x256x256", "IS, Kinetics-600", "59.74", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN-FP", "FVD, Kinetics-600", "103.78 +- 1.17", _DVDGAN_FVD, _DVDGAN_PAPER),
)
"""A selection; every figure names its source."""


# ------------------------------------------------------------------------------------------------
# The comparison of several systems: from plain values to HTML, Markdown, CSV or LaTeX


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric of a table.

    Attributes:
        title: its name.
        better: `higher`, `lower` or `nearer to 1`.
        real: what held-out real clips score, if that is defined.
        floor: how far two sets of real clips are apart.
        controls: what noise, broken clips or forecasts without a model score, by name.
        percent: whether values are shares of 1.
    """

    title: str
    better: str
    real: float | None = None
    floor: float | None = None
    controls: Mapping[str, float] = field(default_factory=dict)
    percent: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The scores of one system's seeds: their mean, and their range if there are several."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Mean over seeds, or None without any."""
        return sum(self.values) / len(self.values) if self.values else None

    def text(self, percent: bool = False) -> str:
        """The mean, and the range in brackets."""

        def shown(value: float) -> str:
            return f"{100 * value:.1f} %" if percent else number(value)

        if self.mean is None:
            return ""
        if len(self.values) == 1:
            return shown(self.mean)
        return f"{shown(self.mean)} ({shown(min(self.values))} to {shown(max(self.values))})"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system.

    Attributes:
        label: its name.
        facts: seeds, parameters, cost and the like, by title.
        cells: one for each column of the table.
        remarks: warnings, such as that it did not learn.
    """

    label: str
    facts: dict[str, str]
    cells: tuple[Cell, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """Systems that were measured alike.

    Attributes:
        basis: everything that had to be equal, by title.
        differs: how this differs from the first table; empty for that one.
        columns: metrics.
        rows: systems, in the order given.
        sentence: the conclusion.
    """

    basis: dict[str, str]
    differs: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sentence: str

    @property
    def references(self) -> list[tuple[str, list[float | None]]]:
        """What stands above the systems: titles, and a value or None for each column."""
        rows: list[tuple[str, list[float | None]]] = [
            ("real clips, held out", [column.real for column in self.columns]),
            ("floor: real against real", [column.floor for column in self.columns]),
        ]
        for name in dict.fromkeys(name for column in self.columns for name in column.controls):
            values = [column.controls.get(name) for column in self.columns]
            rows.append((f"control: {name}", values))
        return rows

    @property
    def notes(self) -> list[str]:
        """Remarks of all systems, one of each kind; rows refer to them by number."""
        return of_systems({row.label: row.remarks for row in self.rows})[0]

    def marks(self, row: Row) -> str:
        """Numbers of a row's notes."""
        _, marks = of_systems({row.label: row.remarks for row in self.rows})
        return ", ".join(map(str, marks.get(row.label, [])))


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Clips of one system, and how it departs from its paper."""

    label: str
    media: tuple[Medium, ...]
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything a comparison shows."""

    title: str
    tables: tuple[Table, ...]
    galleries: tuple[Gallery, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------
# Forms


def comparison_page(comparison: Comparison) -> str:
    """One self-contained HTML document; every text is escaped."""
    page = template("comparison.html.j2")
    return page.render(comparison=comparison, published=PUBLISHED)


def comparison_markdown(comparison: Comparison, *, with_published: bool = True) -> str:
    """The tables as Markdown, published figures in a table of their own."""
    parts = [f"# {markdown(comparison.title)}"]
    for table in comparison.tables:
        facts = "; ".join(f"{key}: {value}" for key, value in table.basis.items())
        parts.append(f"{markdown(facts)}.")
        if table.differs:
            listed = markdown("; ".join(table.differs))
            parts.append(f"Not in one column with the first table: {listed}.")
        parts += [_markdown_table(grid) for grid in (_grid(table), _facts_grid(table)) if grid]
        parts += [f"({index}) {markdown(note)}" for index, note in enumerate(table.notes, 1)]
        parts.append(markdown(table.sentence))
    parts += [f"Left out: {markdown(item)}." for item in comparison.left_out]
    if with_published:
        parts.append(
            "Published figures, each under its own protocol and none comparable with ours:"
        )
        lines = [["system", "metric", "value", "protocol", "source"]]
        lines += [[p.system, p.metric, p.value, p.protocol, p.source] for p in PUBLISHED]
        parts.append(_markdown_table(lines))
    return "\n\n".join(parts) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """One line for each system, metric and table, for further computing.

    `remarks` holds the remarks on the system, one after the other; what was left out follows at the
    end, without a table.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for index, table in enumerate(comparison.tables, 1):
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell.values:
                    values = (
                        *(index, table.basis.get("Protocol"), table.basis.get("Clips a set")),
                        *(row.label, column.title),
                        *(column.better, cell.mean, min(cell.values), max(cell.values)),
                        *(len(cell.values), column.real, column.floor),
                        *(_bare(row.facts.get(fact, "")) for fact in CSV_FACTS),
                        "; ".join(row.remarks),
                    )
                    safe = map(csv_cell, values)
                    writer.writerow(dict(zip(CSV_COLUMNS, safe, strict=True)))
    for item in comparison.left_out:
        writer.writerow({"remarks": csv_cell(f"left out: {item}")})
    return buffer.getvalue()


def comparison_latex(comparison: Comparison) -> str:
    """Two `tabular`s for each table, scores and cost, with the protocol in a comment above and
    the remarks below."""
    parts = []
    for table in comparison.tables:
        comments = [latex_comment(f"{key}: {value}") for key, value in table.basis.items()]
        if table.differs:
            listed = "; ".join(table.differs)
            comments.append(latex_comment(f"Not in one column with the first table: {listed}"))
        parts.append("\n".join([*comments, *_tabular(_grid(table), len(table.references))]))
        facts = _facts_grid(table)
        parts += ["\n".join(_tabular(facts))] if facts else []
        notes = [
            *(f"({index}) {note}" for index, note in enumerate(table.notes, 1)),
            table.sentence,
        ]
        parts += [latex(note) for note in notes]
    parts += [latex(f"Left out: {item}.") for item in comparison.left_out]
    return "\n\n".join(parts) + "\n"


def comparison_json(comparison: Comparison) -> str:
    """Everything but clips, as the fields of `Comparison`."""
    plain = asdict(replace(comparison, galleries=()))
    return json.dumps(plain, indent=2, allow_nan=False) + "\n"


def _tabular(grid: Sequence[Sequence[str]], num_references: int = 0) -> list[str]:
    """A `tabular` with rules below the header, the references and the last line."""
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(grid[0]) - 1)}}}", r"\hline"]
    for index, line in enumerate(grid):
        lines.append(" & ".join(map(latex, line)) + r" \\")
        if index in (0, num_references, len(grid) - 1):
            lines.append(r"\hline")
    return [*lines, r"\end{tabular}"]


def _bare(fact: str) -> str:
    """The number alone: 1234567 of `1,234,567`, 0.083 of `0.083 (5 min)`."""
    return fact.partition(" ")[0].replace(",", "")


CSV_FACTS = ("generator parameters", "discriminator parameters", "steps", "device-hours a run")
"""Facts repeated on every line of a system."""

CSV_COLUMNS = (
    *("table", "protocol", "clips_a_set", "system", "metric", "better", "mean", "lowest"),
    *("highest", "seeds", "real", "floor"),
    *(fact.replace(" ", "_").replace("-", "_") for fact in CSV_FACTS),
    "remarks",
)

FORMS: dict[str, Callable[[Comparison], str]] = {
    ".html": comparison_page,
    ".md": comparison_markdown,
    ".csv": comparison_csv,
    ".tex": comparison_latex,
    ".json": comparison_json,
}
"""How a comparison is written, by the suffix of the file."""


def _grid(table: Table) -> list[list[str]]:
    """Header, references, and a line with the scores of each system."""
    lines = [["system", *(f"{c.title} ({c.better} is better)" for c in table.columns)]]
    for title, values in table.references:
        texts = [
            "" if value is None else Cell(values=(value,)).text(column.percent)
            for value, column in zip(values, table.columns, strict=True)
        ]
        lines.append([title, *texts])
    for row in table.rows:
        texts = [
            cell.text(column.percent) for cell, column in zip(row.cells, table.columns, strict=True)
        ]
        marks = f" ({table.marks(row)})" if row.remarks else ""
        lines.append([row.label + marks, *texts])
    return lines


def _facts_grid(table: Table) -> list[list[str]]:
    """Header and a line with seeds, sizes and cost of each system; empty if none is known."""
    if not any(value for row in table.rows for value in row.facts.values()):
        return []
    header = ["system", *table.rows[0].facts]
    return [header, *([row.label, *row.facts.values()] for row in table.rows)]


def _markdown_table(lines: Sequence[Sequence[str]]) -> str:
    header, *body = ["| " + " | ".join(map(markdown, line)) + " |" for line in lines]
    rule = "|" + " --- |" * len(lines[0])
    return "\n".join([header, rule, *body])


def known_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts that are known, as text."""
    return {key: str(value) for key, value in facts.items() if value is not None}
