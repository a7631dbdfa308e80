"""What a tag releases, and what a week of releases of others is tried on."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from lakehouse_tests.clone import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CHANGELOG = """# Changelog

## Unreleased

## 1.2.3 - 2026-12-01

- Something new.

## 1.2.2 - 2026-11-01

- Something old.
"""


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / ".ci" / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notes_of_a_tag_are_those_of_its_version() -> None:
    assert script("release.py").notes("v1.2.3", "1.2.3", CHANGELOG) == "- Something new.\n"


@pytest.mark.parametrize(
    ("tag", "declared", "changelog", "why"),
    [
        ("v1.2.4", "1.2.3", CHANGELOG, r"tag it v1\.2\.3"),
        ("1.2.3", "1.2.3", CHANGELOG, r"tag it v1\.2\.3"),
        ("v1.2.4", "1.2.4", CHANGELOG, r"no section `## 1\.2\.4 - YYYY-MM-DD`"),
        ("v1.2.3", "1.2.3", CHANGELOG.replace("- Something new.\n", ""), "with a line below it"),
        ("v1.2.3", "1.2.3", CHANGELOG.replace(" - 2026-12-01", ""), "no section"),
        ("v1.2.3", "1.2.3", CHANGELOG.replace("Unreleased\n", "Unreleased\n- More.\n"), "under Unreleased"),
    ],
)
def test_a_tag_that_says_something_else_releases_nothing(
    tag: str, declared: str, changelog: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        script("release.py").notes(tag, declared, changelog)


def test_what_is_tried_without_versions_is_everything_that_is_named_with_one() -> None:
    found = script("unpinned.py").unpinned(PROJECT, ["dev"])
    every = [
        *PROJECT["dependencies"],
        *(one for some in PROJECT["optional-dependencies"].values() for one in some),
    ]
    named = {re.match(r"[\w.-]+", one)[0] for one in every} - {"lakehouse"}  # type: ignore[index]
    assert {"dagster", "pandera[polars]", "pytest", "dagster-aws"} <= set(found)
    assert sorted(re.sub(r"\[.*", "", one) for one in found) == sorted(named)
    assert not any(sign in name for name in found for sign in "=<>~! ")
