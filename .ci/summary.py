"""How long everything took, the slowest tests, and how many were skipped; fails where more were than may be.

Usage: summary.py SECONDS SKIPPED_AT_MOST LOG...
"""

import re
import sys
from pathlib import Path

_SLOWEST = 15


def main(seconds: int, skipped_at_most: int, logs: list[str]) -> int:
    """Print the summary of pytest's outputs; the exit code."""
    text = "\n".join(Path(log).read_text(encoding="utf-8", errors="replace") for log in logs)
    counts = {
        word: sum(map(int, re.findall(rf"(\d+) {word}", text))) for word in ("passed", "failed", "skipped")
    }
    timed = sorted(
        (
            (float(took), test)
            for took, test in re.findall(r"^([\d.]+)s (?:call|setup|teardown) +(\S.*)$", text, re.M)
        ),
        reverse=True,
    )
    print(f"\nAll of it took {seconds // 60} min {seconds % 60} s. The {_SLOWEST} slowest tests:")
    for took, test in timed[:_SLOWEST]:
        print(f"  {took:6.1f} s  {test}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    if counts["skipped"] > skipped_at_most:
        print(f"More tests were skipped than the {skipped_at_most} that may be.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
