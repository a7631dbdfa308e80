"""The tests of storage once more, on OpenStack Swift: another program that speaks S3, which verifies every
signature and knows no `If-Match` where something is written.

`make test-long` runs all of them; here are those of the objects themselves, of cells and of two writers.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parent
SOME = ("test_objects.py", "test_tables.py", "test_guarding.py")
NOT_NOW = "not threads and not many"  # dozens of turns at one lock take Swift half a minute
LEAST = 25


def test_storage_is_the_same_on_a_second_s3() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", "--timeout", "100"]
    selected = ["-k", f"(swift or guarding) and {NOT_NOW}", *(str(FOLDER / name) for name in SOME)]
    named = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [*command, *selected], env=named | {"STORE": "swift"}, capture_output=True, text=True, timeout=230
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    told = re.search(r"(\d+) passed(?:, (\d+) deselected)? in", done.stdout.splitlines()[-1])
    assert told is not None, done.stdout[-1000:]
    assert int(told[1]) >= LEAST
    assert "skipped" not in done.stdout
