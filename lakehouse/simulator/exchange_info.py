"""The body of exchangeInfo, in the shapes of spot, linear and inverse markets."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from lakehouse.model.market import MarketType
from lakehouse.simulator.markets import SPOT_DECIMALS, SimulatedMarket

_NEVER = 4_133_404_800_000
"""The delivery date of a perpetual: 2100-12-25."""


def exchange_info(
    market_type: MarketType, markets: Iterable[SimulatedMarket], server_time: int
) -> dict[str, Any]:
    """The whole body."""
    listing = _spot if market_type == "spot" else _future
    body: dict[str, Any] = {
        "timezone": "UTC",
        "serverTime": server_time,
        "rateLimits": _rate_limits(market_type),
        "exchangeFilters": [],
    }
    if market_type == "linear":
        body |= {
            "futuresType": "U_MARGINED",
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        }
    return body | {"symbols": [listing(market) for market in markets]}


def _rate_limits(market_type: MarketType) -> list[dict[str, Any]]:
    def limit(kind: str, interval: str, count: int, most: int) -> dict[str, Any]:
        return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": most}

    if market_type == "spot":
        orders = [limit("ORDERS", "SECOND", 10, 100), limit("ORDERS", "DAY", 1, 200_000)]
        return [
            limit("REQUEST_WEIGHT", "MINUTE", 1, 6_000),
            *orders,
            limit("RAW_REQUESTS", "MINUTE", 5, 61_000),
        ]
    return [limit("REQUEST_WEIGHT", "MINUTE", 1, 2_400), limit("ORDERS", "MINUTE", 1, 1_200)]


def _spot(market: SimulatedMarket) -> dict[str, Any]:
    return {
        "symbol": market.symbol,
        "status": "TRADING",
        "baseAsset": market.base,
        "baseAssetPrecision": SPOT_DECIMALS,
        "quoteAsset": market.quote,
        "quotePrecision": SPOT_DECIMALS,
        "quoteAssetPrecision": SPOT_DECIMALS,
        "baseCommissionPrecision": SPOT_DECIMALS,
        "quoteCommissionPrecision": SPOT_DECIMALS,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            *_filters(market, SPOT_DECIMALS),
            {"filterType": "NOTIONAL", "minNotional": _units(1, 0, SPOT_DECIMALS)},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }


def _future(market: SimulatedMarket) -> dict[str, Any]:
    inverse = market.market_type == "inverse"
    contract = (
        {"contractStatus": "TRADING", "contractSize": market.contract_size}
        if inverse
        else {"status": "TRADING"}
    )
    return {
        "symbol": market.symbol,
        "pair": market.symbol.partition("_")[0],
        "contractType": market.contract_type,
        "deliveryDate": _delivery_date(market),
        "onboardDate": int(market.listed.timestamp()) * 1000,
        **contract,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": market.base,
        "quoteAsset": market.quote,
        "marginAsset": market.base if inverse else market.quote,
        "pricePrecision": market.price_decimals,
        "quantityPrecision": market.volume_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012000",
        "marketTakeBound": "0.30",
        "filters": [*_filters(market, None), {"filterType": "MAX_NUM_ORDERS", "limit": 200}],
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def _delivery_date(market: SimulatedMarket) -> int:
    if market.delisted is None or "PERPETUAL" in market.contract_type:
        return _NEVER
    return int(market.delisted.timestamp()) * 1000


def _filters(market: SimulatedMarket, shown: int | None) -> list[dict[str, str]]:
    tick, lot = (
        _units(1, decimals, decimals if shown is None else shown)
        for decimals in (market.price_decimals, market.volume_decimals)
    )
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "1000000", "stepSize": lot},
    ]


def _units(count: int, decimals: int, shown: int) -> str:
    """`count` units of the last of `decimals`, printed with `shown` decimals."""
    return f"{Decimal(count).scaleb(-decimals):.{shown}f}"
