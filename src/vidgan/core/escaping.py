"""Untrusted text, escaped for the format it is written in.

Names of files and classes, labels and fields of records may hold anything. There is one function
for every form; HTML goes through `report.page.template`, whose texts are all escaped, after
`terminal` has spelled out what cannot be seen.
"""

from vidgan.errors import printable

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    mark: "\\" + mark for mark in "&%$#_{}"
}
# A line starting like this would be read as an argument of the line break before it.
_LATEX |= {"[": "{[}", "*": "{*}", "<": r"\textless{}", ">": r"\textgreater{}"}
_MARKDOWN = {mark: "\\" + mark for mark in "\\`*_[]|~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_MARKDOWN_STARTS = "#+-=!:"
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def terminal(text: str) -> str:
    r"""Lines that are safe to print: control and invisible characters are escaped.

    Example:
        >>> print(terminal("red" + chr(27) + "[31m"))
        red\x1b[31m
    """
    if text.isprintable():
        return text
    return "\n".join(printable(line) for line in text.split("\n"))


def markdown(text: str) -> str:
    """One line of Markdown that shows the text: no markup, HTML, link or second cell.

    Example:
        >>> print(markdown("a|b <script>"))
        a\\|b &lt;script&gt;
    """
    escaped = "".join(_MARKDOWN.get(mark, mark) for mark in printable(text))
    escaped = escaped.replace("://", "&#58;//")
    return f"\\{escaped}" if escaped.startswith(tuple(_MARKDOWN_STARTS)) else escaped


def latex(text: str) -> str:
    """One line of LaTeX that shows the text verbatim.

    Example:
        >>> print(latex("50%_a"))
        50\\%\\_a
    """
    return "".join(_LATEX.get(mark, mark) for mark in printable(text))


def latex_comment(text: str) -> str:
    """A line of LaTeX that is a comment to its end."""
    return f"% {printable(text)}"


def csv_cell(value: object) -> object:
    """A cell that a spreadsheet reads as text, never as a formula; numbers are unchanged.

    Example:
        >>> csv_cell("=cmd|' /C calc'!A0")
        "'=cmd|' /C calc'!A0"
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _is_formula(text) else text


def csv_text(cell: str) -> str:
    """The text that `csv_cell` wrote, without the mark before a formula.

    Example:
        >>> csv_text("'=cmd"), csv_text("'tis")
        ('=cmd', "'tis")
    """
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(text: str) -> bool:
    # Marks in front count as well: the reader takes one away from each text that has them.
    return text.lstrip("'").lstrip().startswith(_FORMULA_STARTS)
