"""A gold table that is computed from candles."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import polars as pl

from lakehouse.model.table import Table
from lakehouse.model.timerange import TimeRange


class Feature(Table):
    """Base of gold tables: a declaration with the pure function that computes its cells.

    `inputs` says how far each input is looked back on, so a cell comes out the same whether it is built alone
    or in a range.

    Attributes:
        facts: Columns of `silver/market` that rows of inputs are given beside those that name their market,
            in a table over all markets: what holds all a market's life, for what tells of its end was not
            known before.
    """

    facts: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def compute(cls, inputs: Mapping[str, pl.DataFrame], window: TimeRange) -> pl.DataFrame:
        """Compute the rows of one cell.

        Args:
            inputs: Rows of every input by table name, in key order: of all its cells that touch the window or
                its lookback; none of an optional input that is not stored.
            window: The cell's window; only rows that start in it may be returned.
        """
