"""Print every package that pyproject.toml names, extras included, without its version: what others released is
what is installed then.

Usage: unpinned.py EXTRA…
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def unpinned(project: dict[str, Any], extras: Iterable[str]) -> list[str]:
    """The names of packages, with what of each is asked for and where.

    Args:
        project: The table `project` of pyproject.toml.
        extras: Names of optional dependencies; one that names another of the project's brings that.

    Raises:
        KeyError: There is no such extra.
    """
    found: dict[str, None] = {}
    named = [*project["dependencies"], *(f"{project['name']}[{extra}]" for extra in extras)]
    while named:
        one = re.sub(r"\s*[=<>!~][^;]*", "", named.pop(0)).strip()
        if own := re.fullmatch(rf"{project['name']}\[([\w,-]+)\]", one):
            named += [more for extra in own[1].split(",") for more in project["optional-dependencies"][extra]]
        else:
            found[one] = None
    return list(found)


if __name__ == "__main__":
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    print("\n".join(unpinned(tomllib.loads(text)["project"], sys.argv[1:])))
