"""What pages tell to type and to open is there: commands with their options, targets, modules, files."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from lakehouse.cli.app import app
from lakehouse.cli.demo import FAULTS

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "infra").rglob("README.md")]
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which tells of earlier releases too
TYPED = re.compile(r"`([^`]+)`|^ {4}(\S.*)$", re.MULTILINE)
# names that stand for many, and tests named from where they lie
NO_FILES = re.compile(r"NAME|\*|^infra/test_")
ROOMS = {folder.name for folder in (ROOT / "lakehouse").iterdir() if folder.is_dir()} - {"__pycache__"}


def typed(page: Path) -> Iterator[str]:
    """What stands between backticks, or indented as something to type, without a comment behind it."""
    for inline, block in TYPED.findall(page.read_text(encoding="utf-8")):
        yield re.split(r" +# |\s*\|\s", inline or block)[0]


def unknown(words: list[str]) -> str | None:
    """The first word behind `lakehouse` that is no command of it and no option; None if all are."""
    command: Any = typer.main.get_command(app)
    for word in words:
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        if word.startswith("-"):
            if word.partition("=")[0] not in {*options, "--help"}:
                return word
        elif (commands := getattr(command, "commands", None)) is not None:
            if word not in commands:
                return word
            command = commands[word]
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {
        name for line in re.findall(r"^([a-z][a-z -]*):", makefile, re.MULTILINE) for name in line.split()
    }
    absent = []
    for said in typed(page):
        if found := re.match(r"(?:\w+=\S+ )*(?:\.venv/bin/)?lakehouse (?=[a-z-])(.*)", said):
            word = unknown(
                shlex.split(found[1].rstrip("\\…. "), posix=True) if found[1].count('"') % 2 == 0 else []
            )
            absent += [f"{word} of lakehouse {found[1]}"] if word else []
        if (found := re.match(r"(?:\w+=\S+ )*make ([a-z-]+)", said)) and found[1] not in targets:
            absent.append(f"make {found[1]}")
        if found := re.match(r"python -m ((?:lakehouse|infra|benchmarks)[\w.]*)", said):
            place = ROOT / found[1].replace(".", "/")
            absent += (
                [] if place.with_suffix(".py").is_file() or (place / "__main__.py").is_file() else [said]
            )
        if re.fullmatch(r"[\w.-]+/[\w./-]*\w\.(py|md|toml|yaml|json|txt)", said) and not NO_FILES.search(
            said
        ):
            first = said.partition("/")[0]
            if first in ROOMS or (ROOT / first).is_dir():
                places = (ROOT, ROOT / "lakehouse", ROOT / "lakehouse_tests", page.parent)
                absent += [] if any((place / said).is_file() for place in places) else [said]
    assert absent == []


def test_the_readme_counts_the_kinds_of_damage_of_the_demo() -> None:
    kinds = {fault.partition("=")[0] for fault in FAULTS}
    assert len(kinds) == 11
    assert "eleven kinds of damage" in (ROOT / "README.md").read_text(encoding="utf-8")
