"""Words for people."""


def count_of(count: int, noun: str) -> str:
    """A number with its noun, which takes an s in the plural: `1 key`, `1,440 keys`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
