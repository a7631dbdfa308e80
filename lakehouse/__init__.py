"""lakehouse: a crypto market-data lakehouse that proves its rows.

The public Python entry point is `Lake`::

    from lakehouse import Lake

    candles = Lake("lake").candles("binance-spot:BTCUSDT", "2024-01-01", "2024-02-01", interval="1h")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.query.lake import Lake as Lake

__all__ = ["Lake"]


def __getattr__(name: str) -> Any:
    """Import `Lake` on first use, so that `import lakehouse` stays cheap for the command line."""
    if name == "Lake":
        from lakehouse.query.lake import Lake

        return Lake
    raise AttributeError(f"module 'lakehouse' has no attribute {name!r}")
