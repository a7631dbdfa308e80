"""What a tag releases: its notes out of CHANGELOG.md. It fails where tag, package and changelog disagree.

Usage: release.py TAG
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def notes(tag: str, declared: str, changelog: str) -> str:
    """The notes of a release.

    Args:
        tag: `v` and a version.
        declared: The version in pyproject.toml.
        changelog: The text of CHANGELOG.md.

    Raises:
        ValueError: The tag is not that of the declared version, the changelog has no section with the day of
            that version, or nothing in it, or something is still said to be unreleased.
    """
    if tag != f"v{declared}":
        raise ValueError(f"The tag is {tag!r}, pyproject.toml declares {declared!r}: tag it v{declared}.")
    parts = re.split(r"^## (.+)\n", changelog, flags=re.M)[1:]
    sections = {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}
    if sections.get("Unreleased"):
        raise ValueError(
            f"CHANGELOG.md still has lines under Unreleased: move them below `## {declared} - YYYY-MM-DD`."
        )
    for name, text in sections.items():
        if re.fullmatch(rf"{re.escape(declared)} - \d{{4}}-\d{{2}}-\d{{2}}", name) and text:
            return f"{text}\n"
    raise ValueError(
        f"CHANGELOG.md has no section `## {declared} - YYYY-MM-DD` with a line below it: write one."
    )


def main(tag: str) -> int:
    """Print the notes of a tag; the exit code."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    try:
        print(notes(tag, declared, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")), end="")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
