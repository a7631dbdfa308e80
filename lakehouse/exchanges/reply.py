"""What comes back from a REST API, and what its exchange says that it means: values that do no I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lakehouse.model.text import plain

Meaning = Literal[
    "answered", "busy", "throttled", "banned", "blocked", "unknown_symbol", "refused", "foreign"
]
"""What a reply means for its request: it is the answer; the API cannot answer now; too much was asked; this
address is banned for it; the API does not serve this address at all; it does not know the market; it refuses
this one question; nothing that this API says.
"""

_LONGEST_BAN = 3 * 86_400.0  # seconds: the longest that is documented
_SAID = 200  # characters of what came instead of an answer
# of a web page, its tags included: to search all of a large one for pairs of tags takes the square of its
# length
_PAGE_SAID = 4_000


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        status: Of HTTP; None if nothing came.
        headers: By name, in lower case.
        value: The body as JSON; None where it is none.
        said: The body as it is, or why nothing came.
        is_json: Whether the body is JSON.
    """

    status: int | None
    headers: Mapping[str, str]
    value: Any
    said: str
    is_json: bool

    @property
    def told(self) -> str:
        """What came instead of an answer, for people."""
        if self.status is None:
            return f"no answer, {plain(self.said, _SAID)}"
        if self.is_json or not self.said.startswith("<"):
            return f"HTTP {self.status}, {plain(self.said, _SAID)}"
        page = re.sub(
            r"<(script|style)\b.*?</\1>|<[^>]*>",
            " ",
            self.said[:_PAGE_SAID],
            flags=re.DOTALL | re.IGNORECASE,
        )
        return (
            f"HTTP {self.status} with a web page in place of JSON "
            f"({plain(' '.join(page.split()), _SAID)!r}): "
            "something between here and the API answers for it"
        )

    def code(self, name: str) -> int | None:
        """The whole number that a body states under a name; None where there is none."""
        code = self.value.get(name) if isinstance(self.value, dict) else None
        return int(code) if isinstance(code, int | str) and re.fullmatch(r"-?[0-9]{1,9}", str(code)) else None

    def text(self, name: str) -> str:
        """What a body states under a name, as text; empty where there is nothing."""
        return str(self.value.get(name, "")) if isinstance(self.value, dict) else ""

    def retry_after(self, default: float) -> float:
        """Seconds to wait: what is told, if it can be meant."""
        said = self.headers.get("retry-after", "")
        return min(float(said), _LONGEST_BAN) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", said) else default


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply means for its request.

    Attributes:
        meaning: That.
        seconds: How long nothing may be asked (`throttled`, `banned`; `answered`, where that was the last for
            now).
        code: The error's code (`unknown_symbol`, `refused`).
        why: The error in the API's words.
    """

    meaning: Meaning
    seconds: float = 0.0
    code: int = 0
    why: str = ""


ANSWERED = Verdict("answered")
