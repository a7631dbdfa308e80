"""The files beside the code say what is so."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.cli.app import app
from lakehouse.registry import REGISTRY
from lakehouse_tests.clone import ROOT

CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_the_changelog_has_every_code_version_that_was_raised() -> None:
    said = {(table, int(number)) for table, number in re.findall(r"^\| `(\S+)` \| (\d+) \|", CHANGES, re.M)}
    raised = {
        (table.name, number) for table in REGISTRY.tables for number in range(2, table.code_version + 1)
    }
    assert said == raised


def test_the_changelog_has_what_is_unreleased_and_the_day_of_every_release() -> None:
    first, *releases = re.findall(r"^## (.+)$", CHANGES, re.M)
    assert first == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", release) for release in releases)


def test_the_command_says_the_version_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.stdout) == (0, f"lakehouse {version('lakehouse')}\n")
    assert version("lakehouse") == declared


def test_the_license_is_the_one_that_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_links_to_is_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


def test_the_readme_is_one_page_with_two_pictures() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[.{20,}\]\((docs/pictures/\w+\.png)\)", text)
    assert len(pictures) == 2
    assert all((ROOT / picture).stat().st_size < 200_000 for picture in pictures)
    assert len(text.splitlines()) <= 70
