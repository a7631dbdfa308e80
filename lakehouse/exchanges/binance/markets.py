"""What Binance says of its markets: exchangeInfo, and the shape of symbols."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse.exchanges.api import ExchangeInfo, MarketInfo
from lakehouse.exchanges.binance.words import FIRST_CONTRACT, is_number
from lakehouse.exchanges.exchange import Renamed
from lakehouse.model.market import Market, MarketType, symbol_fault
from lakehouse.model.terms import DELIVERY, NO_TERMS, PERPETUAL, TRADIFI_PERPETUAL, Terms
from lakehouse.model.text import plain
from lakehouse.model.words import count_of

RENAMED: Mapping[str, Renamed] = {
    "LEND": Renamed("AAVE", 0.01),
    "BTT": Renamed("BTTC", 1000.0),
    "NANO": Renamed("XNO"),
    "GAL": Renamed("G", 60.0),
    "MATIC": Renamed("POL"),
}
"""Coins whose markets were closed and opened again under another name, with the ratio at which holders were
given the new coin: of October 2020 (LEND, by the contract that migrates it), January 2022 (BTT, by
BitTorrent's redenomination; NANO), July 2024 (GAL, by Galxe's migration) and September 2024 (MATIC). A coin
whose ratio is not published as one number, or whose symbol stayed the same, is none of these.
"""
_INTERVAL = ("symbol", "fundingIntervalHours")
_INVERSE = re.compile(r"(?P<base>.+)USD_(?:PERP|\d{6})")
_DELIVERY = re.compile(r".+_(\d{6})")
_LAST_DELIVERY = datetime(2200, 1, 1, tzinfo=UTC)  # perpetuals are delivered in 2100
_CONTRACT_TYPES: Mapping[str, str | None] = {
    "": None,  # of a contract that is not traded yet, or was settled
    "PERPETUAL": PERPETUAL,
    "PERPETUAL_DELIVERING": PERPETUAL,
    "TRADIFI_PERPETUAL": TRADIFI_PERPETUAL,
    **dict.fromkeys(
        (
            "CURRENT_MONTH",
            "NEXT_MONTH",
            "CURRENT_QUARTER",
            "NEXT_QUARTER",
            "CURRENT_QUARTER_DELIVERING",
            "NEXT_QUARTER_DELIVERING",
        ),
        DELIVERY,
    ),
}


def info_of_symbol(market: Market) -> MarketInfo:
    """What the documented shape of a symbol states, and nothing that is merely likely.

    The symbols of inverse markets are `<base>USD_<suffix>`, and their contracts 100 USD for BTC and 10
    for all others. Where base and quote part in any other symbol nobody can tell (BTCUSDP is BTC in
    USDP), so both stay unknown. A contract with a date in its symbol is delivered on that day.
    """
    ends = _delivered(market.symbol) if market.market_type != "spot" else None
    found = _INVERSE.fullmatch(market.symbol) if market.market_type == "inverse" else None
    kind = DELIVERY if ends else PERPETUAL if found and market.symbol.endswith("_PERP") else None
    terms = Terms(contract_type=kind, expires=ends)
    if found is None:
        return MarketInfo(ends=ends, terms=terms)
    size = 100.0 if found["base"] == "BTC" else 10.0
    return MarketInfo(found["base"], "USD", found["base"], size, ends, terms=terms)


def read_exchange_info(market_type: MarketType, entries: Any) -> ExchangeInfo:
    """An exchangeInfo, entry by entry: an odd one costs nobody else his facts.

    Args:
        market_type: Of which API.
        entries: Its `symbols`.

    Raises:
        TypeError: It is no list.
    """
    if not isinstance(entries, list):
        raise TypeError(f"its symbols are no list but {entries!r:.100}")
    said: dict[str, list[MarketInfo]] = {}
    skipped: dict[str, str] = {}
    nameless: list[str] = []
    for entry in entries:
        symbol = entry.get("symbol") if isinstance(entry, dict) else None
        if (why := symbol_fault(symbol)) or not isinstance(symbol, str):
            nameless.append(f"{why} ({entry if symbol is None else symbol!a:.100})")
            continue
        try:
            info = _info(market_type, entry)
        except ValueError as error:
            skipped[symbol] = plain(error)
        else:
            said.setdefault(symbol, []).append(info)
    agreed = {
        symbol: infos[0]
        if all(info.terms == infos[0].terms for info in infos)
        else replace(infos[0], terms=NO_TERMS)
        for symbol, infos in said.items()
        if all(info == infos[0] for info in infos)
    }
    skipped |= {
        symbol: f"{len(infos)} entries that contradict each other"
        for symbol, infos in said.items()
        if symbol not in agreed
    }
    if nameless:
        skipped[""] = (
            f"{count_of(len(nameless), 'other')} of it can be no market, the first because {nameless[0]}"
        )
    return ExchangeInfo(agreed, skipped)


def read_funding_info(entries: Any) -> Mapping[str, float]:
    """The hours between payments of funding, by symbol. Markets that pay in the usual interval are not named.

    Raises:
        TypeError: It is no list.
    """
    if not isinstance(entries, list):
        raise TypeError(f"it is no list but {entries!r:.100}")
    told = {}
    for entry in entries:
        symbol, hours = (entry.get(name, "") for name in _INTERVAL) if isinstance(entry, dict) else ("", "")
        if isinstance(symbol, str) and is_number(hours) and 0 < float(hours) <= 24:
            told[symbol] = float(hours)
    return told


def _info(market_type: MarketType, entry: Mapping[str, Any]) -> MarketInfo:
    """One entry of an exchangeInfo.

    No status names an instant: BREAK, CLOSE, SETTLING, DELIVERING and PENDING_TRADING alike say no more than
    that the market does not trade now.

    Raises:
        ValueError: A fact is absent, or not what it should be.
    """

    def text(name: str) -> str:
        if not isinstance(value := entry.get(name), str) or not value.strip() or not value.isprintable():
            raise ValueError(f"{name} is {value!a}, expected text")
        return value

    status = text("contractStatus" if market_type == "inverse" and "contractStatus" in entry else "status")
    trades, tick, step = status == "TRADING", *_increments(entry)
    if market_type == "spot":
        terms = Terms(status=status, tick_size=tick, step_size=step)
        return MarketInfo(text("baseAsset"), text("quoteAsset"), trades=trades, terms=terms)
    ends, kind = _delivery_date(entry), _contract_type(entry)
    terms = Terms(kind, status, ends if kind == DELIVERY else None, tick, step, None, _onboarded(entry))
    return MarketInfo(
        text("baseAsset"),
        text("quoteAsset"),
        text("marginAsset"),
        _contract_size(market_type, entry),
        ends,
        trades,
        terms,
    )


def _contract_type(entry: Mapping[str, Any]) -> str | None:
    """What kind of contract; a word that is not known yet stands for itself."""
    said = entry.get("contractType")
    if not isinstance(said, str) or not said.isprintable():
        return None
    return _CONTRACT_TYPES.get(said, said.lower()[:40])


def _increments(entry: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The steps of prices and sizes; None where no filter states one: zero means that there is none."""
    filters, found = entry.get("filters"), dict[str, float]()
    for rule in filters if isinstance(filters, list) else ():
        kind = rule.get("filterType") if isinstance(rule, dict) else None
        name = (
            {"PRICE_FILTER": "tickSize", "LOT_SIZE": "stepSize"}.get(kind) if isinstance(kind, str) else None
        )
        if name and is_number(rule.get(name)) and (step := float(rule[name])) > 0:
            found[name] = step
    return found.get("tickSize"), found.get("stepSize")


def _onboarded(entry: Mapping[str, Any]) -> datetime | None:
    """When trading began, as the exchange says; None where it says no such day."""
    if type(value := entry.get("onboardDate")) is int:
        with contextlib.suppress(OverflowError):
            began = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)
            return began if FIRST_CONTRACT <= began < _LAST_DELIVERY else None
    return None


def _contract_size(market_type: MarketType, entry: Mapping[str, Any]) -> float | None:
    if market_type != "inverse":
        return None
    if not is_number(size := entry.get("contractSize", "")) or float(size) <= 0:
        raise ValueError(f"contractSize is {size!r}, expected a number above 0")
    return float(size)


def _delivery_date(entry: Mapping[str, Any]) -> datetime:
    """When a contract is delivered; that of a perpetual is far ahead."""
    if type(value := entry.get("deliveryDate")) is int:
        with contextlib.suppress(OverflowError):
            ends = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)
            if FIRST_CONTRACT <= ends < _LAST_DELIVERY:
                return ends
    raise ValueError(
        f"deliveryDate is {value!r}, expected milliseconds of a day from {FIRST_CONTRACT:%Y-%m-%d} on"
    )


def _delivered(symbol: str) -> datetime | None:
    """When a contract is delivered by its own symbol, such as BTCUSD_200925: at 08:00 UTC; None if that names
    no day.
    """
    if found := _DELIVERY.fullmatch(symbol):
        with contextlib.suppress(ValueError):
            ends = datetime.strptime(f"20{found[1]}08+0000", "%Y%m%d%H%z").astimezone(UTC)
            return ends if ends >= FIRST_CONTRACT else None
    return None
