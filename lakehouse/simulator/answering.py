"""The two seams of the simulator: what an exchange publishes is an `Archive` under the name of its bucket;
what its API answers is an `Answers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Protocol

REFUSALS = 2
"""How many requests for a path are answered with an error that passes."""


@dataclass(frozen=True, slots=True)
class Refused:
    """How an API shows a fault.

    Attributes:
        status: Of HTTP.
        body: The answer.
        headers: Sent along with it.
        count: How many requests for a path are answered so; None for all.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    count: int | None = None


class RestError(Exception):
    """An error that an exchange answers with, in its own dialect.

    Attributes:
        status: Of HTTP.
        body: To be written as JSON, or as it is.
        headers: Sent along with it.
    """

    def __init__(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
        super().__init__(str(body))
        self.status, self.body, self.headers = status, body, headers


class Answers(Protocol):
    """What an exchange's REST API answers.

    Attributes:
        refusals: How it shows faults that befall whole requests, by their name.
    """

    refusals: ClassVar[Mapping[str, Refused]]

    def owns(self, path: str) -> bool:
        """Whether a path is one of this API's."""

    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], ahead: timedelta
    ) -> tuple[Any, Mapping[str, str]]:
        """Body (to be written as JSON) and headers for a path.

        Args:
            path: The request's.
            query: Its parameters.
            headers: Its headers.
            ahead: How far this API's clock is ahead of the exchange's.

        Raises:
            RestError: The exchange refuses the request.
        """
