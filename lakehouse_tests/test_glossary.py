"""One word per thing: what the glossary rules out stands in no name, docstring, comment, message or page.

A word that is ruled out and has another meaning of its own is allowed in the places of that meaning, or
everywhere where it is a common word; each with its reason.
"""

import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"

_NAUTILUS = ("lakehouse/export/nautilus.py", "docs/exporting.md", "docs/adr/0024-*")

PLACES = {
    "bar": (
        "of progress; a function of DuckDB; in queries of exchanges; a candle of nautilus_trader",
        *("lakehouse/cli/console.py", "lakehouse/query/statements.*"),
        *("lakehouse/exchanges/*", "CONTRIBUTING.md", *_NAUTILUS),
    ),
    "bulk": (
        "Dagster's word for a backfill's state",
        "lakehouse/defs/sensors.py",
        "lakehouse/cli/activity.py",
        "lakehouse/defs/under_way.py",
    ),
    "cm": (
        "in Binance's paths",
        "lakehouse/exchanges/*",
        "lakehouse/simulator/*",
        "lakehouse/cli/demo.py",
        "docs/coverage.md",
    ),
    "hole": (
        "a cell that is absent among others; the place of a seal; a fault's name; in security",
        *("lakehouse/ops/*", "lakehouse/cli/commands/*", "lakehouse/storage/*", "lakehouse/simulator/*"),
        *("docs/faults.md", "docs/adr/*", "*.md"),
    ),
    "instrument": (
        "in addresses of exchanges; a market of nautilus_trader",
        *("lakehouse/exchanges/*", "lakehouse/simulator/*", "CONTRIBUTING.md", *_NAUTILUS),
    ),
    "invalid": (
        "in what others say",
        *(
            "lakehouse/storage/*",
            "lakehouse/simulator/*",
            "lakehouse/exchanges/*",
            "lakehouse/query/results.py",
        ),
    ),
    "kline": ("Binance's, in paths and answers", "lakehouse/exchanges/*", "lakehouse/simulator/*", "docs/*"),
    "pair": ("a folder of nautilus_trader", *_NAUTILUS),
    "outlier": ("part of an anomaly's kind, `volume_outlier`", "lakehouse/transform/anomalies.py"),
    "outdated": ("written by an older meaning of its table", "lakehouse/pipeline/*"),
    "policy": (
        "a header of HTTP; of Dagster's backfills; what a role on AWS may do",
        *("lakehouse/ui/guard.py", "lakehouse/defs/*", "docs/running.md", "docs/security.md", "docs/adr/*"),
    ),
    "signature": (
        "of a request to S3, or in a URL; of a function",
        *(
            "lakehouse/cli/reporting.py",
            "lakehouse/model/secrets.py",
            "lakehouse/storage/refusals.py",
            "lakehouse/sources/*",
            "docs/adr/*",
        ),
    ),
    "slice": ("Python's type", "lakehouse/model/timerange.py", "lakehouse/model/period.py"),
    "um": (
        "in Binance's paths",
        "lakehouse/exchanges/*",
        "lakehouse/simulator/*",
        "lakehouse/cli/demo.py",
        "docs/coverage.md",
    ),
}
"""Words that are ruled out but where they mean something else: what, and the files in which they do."""
COMMON = {
    "bad": r"bad (candle|row|answer|value)s?",
    "error": r"(price|volume) errors?",
    "failed": r"failed questions?",
    "index": r"index of (cells|a table|footers)",
    "layer": r"(bronze|silver|gold|medallion) layers?",
    "missing": r"missing (candle|minute|hour)s?",
    "pair": r"(trading|currency) pairs?",
    "partition": r"partitions? of (one|a) (market|month)",
    "raw": r"raw (file|zip|zone|layer)s?",
    "rejected": r"rejected questions?",
    "stale": r"stale cells?",
}
"""Words of everyday, of which one use alone is ruled out: that use, but in its places."""


def ruled_out() -> dict[str, str]:
    """The words that the glossary rules out, with the word that it has in their place."""
    rows = [
        line.split("|")[1:-1] for line in GLOSSARY.read_text("utf-8").splitlines() if line.startswith("|")
    ]
    found = {}
    for word, _, others in rows[2:]:
        for other in re.sub(r"\(.*?\)|`", "", others).split(","):
            if other.strip():
                found[other.strip()] = word.strip()
    return found


def terms() -> list[str]:
    """The glossary's own words, those of a row apart."""
    rows = [line.split("|")[1] for line in GLOSSARY.read_text("utf-8").splitlines() if line.startswith("|")]
    return [part.strip(" `") for row in rows[2:] for part in row.split(",")]


@cache
def texts() -> dict[str, str]:
    """The words of every file of the package and every page of the docs, by path; the glossary's apart."""
    files = [*(ROOT / "lakehouse").rglob("*"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    readable = [path for path in files if path.suffix in (".py", ".md", ".css", ".html", ".txt", ".yaml")]
    return {
        path.relative_to(ROOT).as_posix(): words(path.read_text("utf-8"))
        for path in readable
        if path != GLOSSARY
    }


def words(text: str) -> str:
    """A text in lower case and without marks; the parts of names are words as well."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return re.sub(r"[^a-z0-9-]+", " ", parted.lower())


def files_with(pattern: str, places: tuple[str, ...] = ()) -> list[str]:
    """The files in which words stand, but for those of some places."""
    return [
        path
        for path, text in texts().items()
        if re.search(rf"\b({pattern})\b", text) and not any(fnmatchcase(path, glob) for glob in places)
    ]


@pytest.mark.parametrize(("word", "instead"), ruled_out().items())
def test_a_word_that_is_ruled_out_stands_nowhere(word: str, instead: str) -> None:
    pattern = COMMON.get(word, f"{re.escape(word)}s?")
    found = files_with(pattern, PLACES[word][1:] if word in PLACES else ())
    assert found == [], f"the glossary has {instead!r} in place of {word!r}"


@pytest.mark.parametrize("word", PLACES)
def test_a_place_in_which_a_word_is_allowed_has_it(word: str) -> None:
    assert files_with(f"{word}s?", ()), "allowed and not used: drop it"


def test_every_allowance_is_for_a_word_that_is_ruled_out() -> None:
    assert {*PLACES, *COMMON} <= ruled_out().keys()


def test_there_is_one_word_for_a_thing_and_one_thing_for_a_word() -> None:
    assert sorted(set(terms())) == sorted(terms()), "a word is explained twice"
    assert not set(terms()) & ruled_out().keys(), "a word is both explained and ruled out"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("class RawFile", "raw file"),
        ("missing_candles", "missing candles"),
        ("a Venue's", "venue s"),
    ],
)
def test_names_are_read_as_the_words_they_are_made_of(text: str, found: str) -> None:
    assert found in words(text)
