"""Asking an exchange for its description of all its markets: one request each, outside the budget of rows."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lakehouse.exchanges.api import ExchangeInfo, InfoCall, RestApi
from lakehouse.model.foreign_json import read_json
from lakehouse.model.text import plain

_Read = TypeVar("_Read")


def describe(api: RestApi) -> ExchangeInfo:
    """An exchange's description of all its markets of one type.

    Raises:
        OSError: The API does not answer, or not with that.
    """
    return _ask(api.info_call(), api.read_info, "an exchangeInfo")


def funding_intervals(api: RestApi) -> Mapping[str, float]:
    """The hours between payments of funding, by symbol, of the markets of which the exchange states
    them; of none where it does not answer.
    """
    if (call := api.interval_call()) is None:
        return {}
    try:
        return _ask(call, api.read_intervals, "intervals of funding")
    except OSError:
        return {}


def _ask(call: InfoCall, read: Callable[[Any], _Read], what: str) -> _Read:
    # a fifth of a second that reading files never needs
    from lakehouse.sources.rest.bounded import rest_bounds, session

    with session(rest_bounds(call.url)) as asking:
        # its errors are OSErrors
        answer = asking.get(call.url, timeout=(5, 30), params=dict(call.params))
    answer.raise_for_status()
    try:
        return read(read_json(answer.content, half_characters=True))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise OSError(f"{call.url} did not answer with {what}: {plain(repr(error))}") from error
