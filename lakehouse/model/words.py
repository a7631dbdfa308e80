"""Words for people."""

NO_MARKET = (
    "There is no market yet. Name some in LAKEHOUSE_MARKETS, or type: lakehouse markets add "
    "binance-spot:BTCUSDT. In the UI: open the asset bronze/candle_archive, press Materialize, and add one "
    "under symbol; if Dagster says that it cannot find it yet, press OK and go on."
)
"""What to do in an empty lake."""


def count_of(count: int, noun: str) -> str:
    """A number with its noun, which takes an s in the plural: `1 key`, `1,440 keys`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
