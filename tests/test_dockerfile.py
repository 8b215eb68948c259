"""The Dockerfile copies what is there, hides nothing that it needs, and ends without privileges."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    if line.strip()
]


def copied() -> list[str]:
    """What is copied from the checkout."""
    from_here = [words for step, words in STEPS if step == "COPY" and "--from" not in words]
    return [name for words in from_here for name in words.split()[:-1]]


def test_what_is_copied_is_there_and_is_sent() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[1] == "*", "all else stays at home"
    assert set(copied()) == sent
    for name in sent:
        assert (ROOT / name).exists(), name
        assert not any(fnmatch(name, rule) for rule in rules[2:] if not rule.startswith("!"))


def test_everything_that_a_wheel_is_made_of_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    assert {path.split("/")[0] for path in needed} <= set(copied())
    extras = re.findall(r"--build-arg EXTRAS=(\S+)", TEXT)
    assert extras
    assert all(
        name in project["project"]["optional-dependencies"]
        for words in extras
        for name in words.split(",")
    )


def test_it_ends_as_a_user_without_privileges_and_with_vidgan() -> None:
    names = [step for step, _ in STEPS]
    last = dict(STEPS[names.index("USER") :])
    assert int(last["USER"]) > 0
    assert f"--uid {last['USER']} " in TEXT
    assert last["ENTRYPOINT"] == '["vidgan"]'
    assert "RUN" not in names[names.index("USER") :]
    assert not re.search(r"(?i)token|password|secret|api_?key", TEXT)


def test_base_images_are_named_with_a_tag() -> None:
    images = [words.split()[0] for step, words in STEPS if step == "FROM"]
    assert images == ["python:${PYTHON_VERSION}-slim-bookworm"] * 2
    (version,) = [words for step, words in STEPS if step == "ARG" and "PYTHON" in words]
    assert re.fullmatch(r"PYTHON_VERSION=3\.1[1-9]", version)
