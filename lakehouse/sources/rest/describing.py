"""Asking an exchange for its description of all its markets, in a few requests outside the budget of rows."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from lakehouse.exchanges.api import ExchangeInfo, InfoCall, MarketInfo, RestApi
from lakehouse.exchanges.exchange import Exchange
from lakehouse.exchanges.reply import Reply
from lakehouse.model.errors import RestUnreachableError
from lakehouse.model.foreign_json import read_json
from lakehouse.model.market import Market, MarketType
from lakehouse.model.terms import NOT_NAMED
from lakehouse.model.text import plain

_MOST_PARTS = 100  # of a description: a thousand markets each
_SAID = 400  # bytes of an answer that is an error, for people
_Read = TypeVar("_Read")
_log = logging.getLogger(__name__)


class Described:
    """exchangeInfo, asked once per market type; an API out of reach is not asked again."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._known: dict[MarketType, ExchangeInfo | None] = {}

    def of(self, market: Market) -> tuple[str, MarketInfo]:
        info = self.all(market.market_type)
        if info and (why := info.skipped.get(market.symbol)):
            _log.warning(
                "exchangeInfo has an entry of %s that cannot be read, and was skipped: %s.", market.key, why
            )
        if info and (described := info.markets.get(market.symbol)):
            return "exchange_info", replace(
                described, terms=replace(described.terms, is_trading=described.trades)
            )
        if info and (why := info.skipped.get("")):
            _log.warning("exchangeInfo has no entry of %s that can be read, and %s.", market.key, why)
        implied = self._exchange.infer_info(market)
        if info and market.symbol not in info.skipped and "" not in info.skipped:
            implied = replace(implied, terms=replace(implied.terms, status=NOT_NAMED, is_trading=False))
        return "derived", implied

    def all(self, market_type: MarketType) -> ExchangeInfo | None:
        """What the exchange says of all its markets of a type; None where it does not answer."""
        if market_type not in self._known:
            try:
                self._known[market_type] = describe(self._exchange.rest_api(market_type))
            except (OSError, RestUnreachableError):
                self._known[market_type] = None  # the row will say `derived`
        return self._known[market_type]

    def intervals(self, market_type: MarketType) -> Mapping[str, float]:
        """The hours between payments of funding that the exchange states, by symbol."""
        return funding_intervals(self._exchange.rest_api(market_type)) if self.all(market_type) else {}


def describe(api: RestApi) -> ExchangeInfo:
    """An exchange's description of all its markets of one type.

    Raises:
        OSError: The API does not answer, or not with that.
    """

    def read(answer: Any) -> tuple[ExchangeInfo, InfoCall | None]:
        return api.read_info(answer), api.more_info(answer)

    found, more = _ask(api, call := api.info_call(), read, "an exchangeInfo")
    asked = [call]
    while more is not None:
        if more in asked or len(asked) >= _MOST_PARTS:
            raise OSError(f"{call.url} goes on with {more.params} after {len(asked)} parts: it has no end")
        asked.append(more)
        further, more = _ask(api, more, read, "an exchangeInfo")
        found = found.and_more(further)
    return found


def funding_intervals(api: RestApi) -> Mapping[str, float]:
    """The hours between payments of funding, by symbol, of the markets of which the exchange states
    them; of none where it does not answer.
    """
    if (call := api.interval_call()) is None:
        return {}
    try:
        return _ask(api, call, api.read_intervals, "intervals of funding")
    except OSError:
        return {}


def _ask(api: RestApi, call: InfoCall, read: Callable[[Any], _Read], what: str) -> _Read:
    # a fifth of a second that reading files never needs
    from lakehouse.sources.rest.bounded import rest_bounds, session

    with session(rest_bounds(call.url)) as asking:
        # its errors are OSErrors
        answer = asking.get(call.url, timeout=(5, 30), params=dict(call.params))
    answer.raise_for_status()
    try:
        value = read_json(answer.content, half_characters=True)
        said = answer.content[:_SAID].decode(errors="replace")
        reply = Reply(answer.status_code, {}, value, said, is_json=True)
        if api.judge(reply).meaning != "answered":
            raise ValueError(reply.told)
        return read(value)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise OSError(f"{call.url} did not answer with {what}: {plain(repr(error))}") from error
