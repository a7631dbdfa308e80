"""Trino's configuration, and what is said of it, are of one piece."""

import re
from pathlib import Path

import polars as pl
import pytest

from lakehouse.cli import demo_aws, local_trino
from lakehouse.cli.console import out
from lakehouse.cli.demo_aws import say_trino
from lakehouse_tests.clone import ROOT

TRINO = ROOT / "infra" / "trino"
PAGE = (ROOT / "docs" / "readers.md").read_text("utf-8")


def test_the_server_of_the_tests_and_the_image_have_one_version() -> None:
    (tested,) = re.findall(r"<trino.version>(\d+)<", (TRINO / "pom.xml").read_text("utf-8"))
    (image,) = re.findall(r"^FROM trinodb/trino:(\d+)$", (TRINO / "Dockerfile").read_text("utf-8"), re.M)
    assert tested == image


def test_every_variable_and_every_careful_setting_is_told() -> None:
    files = [path.read_text("utf-8") for path in sorted((TRINO / "etc").rglob("*.*"))]
    variables = {name for text in files for name in re.findall(r"\$\{ENV:(\w+)\}", text)}
    assert variables >= {"AWS_REGION", "TRINO_PORT"}
    assert [name for name in sorted(variables) if f"`{name}`" not in PAGE] == []
    settings = {line for text in files for line in text.splitlines() if not line.startswith("#")}
    told = re.findall(r"\| `([\w.-]+=\w+)` \|$", PAGE, re.M)
    assert len(told) == 5
    assert set(told) <= settings


def test_a_machine_without_a_server_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_trino, "SERVER", tmp_path / "server")
    assert "`make trino` gets both, and needs mvn (Debian: maven)" in local_trino.missing_for_trino()
    monkeypatch.setattr(local_trino, "CONFIG", tmp_path / "etc")
    assert local_trino.missing_for_trino() == "its configuration, which only a checkout has"
    assert demo_aws.missing_for_trino() == local_trino.missing_for_trino()
    with out.capture() as said:
        assert say_trino(None, "lake", "SELECT 1", pl.DataFrame())
    assert "Trino was not asked: this machine lacks its configuration" in " ".join(said.get().split())
