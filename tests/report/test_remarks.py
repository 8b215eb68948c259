"""Remarks of many evaluations, merged by kind."""

from vidgan.report.remarks import of_seeds, of_systems


def test_numbers_become_ranges_and_shares_of_seeds_are_said() -> None:
    seeds = [
        ["clips are 9.5 and 12%, and real ones 5", "nothing moves"],
        ["clips are 1,204 and 12%, and real ones 5"],
        ["clips are -3e-2 and 12%, and real ones 5", "nothing moves"],
    ]
    assert of_seeds(seeds) == [
        "clips are -3e-2 to 1,204 and 12%, and real ones 5",
        "nothing moves (2 of 3 seeds)",
    ]
    assert of_seeds([["one"], []]) == ["one (1 of 2 seeds)"]
    assert of_seeds([["clips are 5", "clips are 9", "clips are 2"]]) == ["clips are 2 to 9"]


def test_digits_of_names_dates_and_versions_are_no_numbers() -> None:
    for pair in (
        ("lost digit3-left", "lost digit7-left"),
        ("torch 2.11.0", "torch 2.9.1"),
        ("of 2026-11-27", "of 2025-12-31"),
        ("seeds 1,2,3", "seeds 1,2,4"),
        ("is C# now", "is C1 now"),
        ("runs/a1", "runs/a2"),
        ("is # now", "is 5 now"),
    ):
        assert of_seeds([[sentence] for sentence in pair]) == [
            f"{sentence} (1 of 2 seeds)" for sentence in pair
        ]
    # Equal values that are written differently: the same range in every process.
    assert of_seeds([["is 1.00"], ["is 1"], ["is 1.0"]]) == ["is 1 to 1.00"]


def test_lists_of_classes_are_merged_with_the_lowest_shares_first() -> None:
    lead, end = "the judge hardly ever sees it where that is ", ": the generator does not show it"
    seeds = [
        [f"{lead}up (3%), a b (40%), c3-left (41%) and 4 more{end}"],
        [f"{lead}a b (9%), down (2%){end}"],
    ]
    assert of_seeds(seeds) == [f"{lead}down (2%), up (3%), a b (9 to 40%) and more{end}"]
    alike = (
        "generated clips differ less than half as much as real ones do in square-right ({}%): so"
    )
    assert of_seeds([[alike.format(43)], [alike.format(44)]]) == [alike.format("43 to 44")]
    lost = "of the generated clips the judge assigns to {} (0%), less than a quarter of all"
    names = ("digit3-left", "digit7-left", "C#")
    assert of_seeds([[lost.format(name)] for name in names]) == [
        lost.format("digit3-left (0%), digit7-left (0%), C#")
    ]
    ranged = f"{lead}up (3 to 9%), a b (5%) and more{end}"
    assert of_seeds([[ranged], [f"{lead}up (12%){end}"]]) == [
        f"{lead}up (3 to 12%), a b (5%) and more{end}"
    ]
    # A name that the list's marks cannot be told from stays as it is, once for each seed.
    odd = f"{lead}a: b (3%), c (4%){end}"
    assert of_seeds([[odd], [odd.replace("(4%)", "(5%)")]])[0].startswith(f"{lead}a: b (3%), c (4")


def test_systems_share_notes_and_keep_their_own_numbers() -> None:
    first = of_seeds([["clips are 5"], ["clips are 7"], []])
    second = of_seeds([["clips are 9", "still"], ["clips are 9", "still"]])
    assert (first, second) == (["clips are 5 to 7 (2 of 3 seeds)"], ["clips are 9", "still"])
    notes, marks = of_systems({"A": first, "B": second, "C": []})
    assert notes == ["clips are 5 to 9 (A: 2 of 3 seeds)", "still"]
    assert marks == {"A": [1], "B": [1, 2]}
