"""Regular expressions from settings: none that may run forever is started."""

import time

import pytest

from vidgan.core.expressions import check_expression, search
from vidgan.errors import UserError

LONG = "a" * 200 + "!"


@pytest.mark.parametrize(
    "expression",
    [
        "(a+)+$",
        "((a|aa)+)$",
        "(?:(?:a?){30})(a)",
        "([a-z]+)*x",
        "((?:.*a){12})b",
        "(?=(a+)+x)(a)",
        "(?i:(a*)*)x",
        "((?>a+b?)+)x",
        "(x(?:|a|aa)*)$",
    ],
)
def test_repeats_of_what_can_match_in_several_ways_are_refused(expression: str) -> None:
    with pytest.raises(UserError, match=r"data\.group_by=.* itself repeats or has alternatives"):
        check_expression(expression, "data.group_by")


@pytest.mark.parametrize(
    "expression",
    ["(.*)" * 8 + "x", "(a?)" * 30 + "x", "(?:a|aa|aaa)" * 20 + "(x)", r"(.*)(.*)(.*)(.*)\1x"],
)
def test_many_repeats_in_a_long_name_are_refused_at_once(expression: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match="may take forever"):
        search(expression, LONG, "data.group_by")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("expression", "name", "group"),
    [
        ("(film[0-9]+)_", "film12_3", "film12"),
        (r"^(.*)_part\d+", "a_b_part2", "a_b"),
        (r"(.*)_(\d+)-\d+$", "walk_12-3", "walk"),
        ("(?:abc){2}(x|y)", "abcabcy", "y"),
        ("([a-z]{3})", "12abc", "abc"),
        ("(film)", "none", None),
    ],
)
def test_usual_expressions_match(expression: str, name: str, group: str | None) -> None:
    found = search(expression, name, "data.group_by")
    assert (None if found is None else found[1]) == group


@pytest.mark.parametrize("expression", ["(", "(" * 3000, "a{99999999999}", "*"])
def test_what_is_no_expression_is_one_sentence(expression: str) -> None:
    with pytest.raises(UserError, match=r"^data\.group_by="):
        check_expression(expression, "data.group_by")
