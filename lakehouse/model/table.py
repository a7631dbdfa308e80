"""What a table is: declared once as a class, projected to every schema that another part needs."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from inspect import cleandoc
from typing import Any, ClassVar, Literal

import polars as pl
import pyarrow as pa

from lakehouse.model.cadence import Cadence
from lakehouse.model.cell import Cell
from lakehouse.model.check import SCHEMA, Check
from lakehouse.model.errors import DuplicateKeyError, SchemaError
from lakehouse.model.input import Input
from lakehouse.model.market import MARKET_TYPES, MarketType
from lakehouse.model.period import PeriodKind

UTC_TIME = pl.Datetime("us", "UTC")
Dtype = pl.DataType | type[pl.DataType]
Zone = Literal["bronze", "silver", "gold"]

# One row per declared type: what Arrow and Glue call it. A type that is not here breaks Spark, Trino or
# pyarrow.
_TYPES: dict[Dtype, tuple[pa.DataType, str]] = {
    UTC_TIME: (pa.timestamp("us", tz="UTC"), "timestamp"),
    pl.Float64: (pa.float64(), "double"),
    pl.Int64: (pa.int64(), "bigint"),
    pl.Int32: (pa.int32(), "int"),
    pl.String: (pa.large_string(), "string"),  # as Polars hands it over; in Parquet it is the same
    pl.Boolean: (pa.bool_(), "boolean"),
}

MOST_ROWS = 1 << 23
"""Rows that an object of all markets may have; one of one market has an eighth of them at most, far less
where its declaration says so.
"""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        dtype: A Polars type out of `UTC_TIME`, Float64, Int64, Int32, String, Boolean.
        description: What the value means, in one sentence.
        unit: `UTC`, `base`, `quote`, `contracts`, `count` and so on; empty where there is none.
        nullable: Whether null is a legal value; it then means "not published", never zero.
        at_least: Inclusive lower bound.
        above: Exclusive lower bound.
    """

    dtype: Dtype
    description: str
    unit: str = ""
    nullable: bool = False
    at_least: float | None = None
    above: float | None = None

    @property
    def constraints(self) -> list[str]:
        """The column's own bounds as text, for schemas that show them."""
        bounds = [f">= {self.at_least:g}"] if self.at_least is not None else []
        return bounds + ([f"> {self.above:g}"] if self.above is not None else [])


@dataclass(frozen=True, slots=True)
class Rule:
    """A statement every row of a table must satisfy.

    Attributes:
        name: Snake case; what quarantine records.
        holds: Boolean expression over the row; null counts as satisfied (a value not published breaks no
            rule).
        description: The statement in words.
    """

    name: str
    holds: pl.Expr = field(compare=False)
    description: str

    @property
    def is_kept(self) -> pl.Expr:
        """`holds`, never null."""
        return self.holds.fill_null(True)


class Table:
    """Base of all table declarations. Subclasses set the class attributes below and list columns as `Column`
    attributes.

    Attributes:
        name: `zone/table`; also asset key, folder, view and Glue table.
        key: Columns that identify a row within a cell; rows are sorted by them.
        time: The column that places a row in its window; empty for a table of a single object.
        spread: `market` (one object per window and market), `all` (one per window, all markets in it) or
            `one` (one object).
        grain: Length of the windows.
        market_types: The market types that have this table.
        inputs: What it is made from.
        cadence: When a row is expected; None where nobody can tell.
        published: The shortest period that its sources publish files of: what is absent may still appear with
            one until that is over, and a grace after it.
        checks: The rule families that the whole table is held to.
        reads_footers: Whether it is made from what cells say of themselves, whose news may come without a new
            version.
        code_version: Raised when the meaning of the table changes; cells built by an older one become due.
        most_per_minute: Rows that a minute of a cell's window can have, versions and sources included; None
            where that is not known.
        row_rules: Statements across columns; those about one column alone come from the columns.
    """

    name: ClassVar[str]
    key: ClassVar[tuple[str, ...]]
    time: ClassVar[str]
    spread: ClassVar[Literal["market", "all", "one"]] = "market"
    grain: ClassVar[PeriodKind] = "month"
    market_types: ClassVar[tuple[MarketType, ...]] = MARKET_TYPES
    inputs: ClassVar[tuple[Input, ...]] = ()
    cadence: ClassVar[Cadence | None] = None
    published: ClassVar[PeriodKind] = "day"
    checks: ClassVar[tuple[Check, ...]] = (SCHEMA,)
    reads_footers: ClassVar[bool] = False
    code_version: ClassVar[int] = 1
    most_per_minute: ClassVar[int | None] = None
    row_rules: ClassVar[tuple[Rule, ...]] = ()
    columns: ClassVar[dict[str, Column]]
    _own: ClassVar[dict[str, Column]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Column)}
        for name in own.keys() & vars(Table).keys():  # a column named as one of ours, such as `spread`
            delattr(cls, name)
        cls._own = own
        of_bases = [vars(base).get("_own", vars(base)) for base in reversed(cls.__mro__)]
        cls.columns = {
            name: value for own in of_bases for name, value in own.items() if isinstance(value, Column)
        }

    # --- names ------------------------------------------------------------------------------------

    @classmethod
    def zone(cls) -> Zone:
        """`bronze`, `silver` or `gold`: the first part of the name."""
        return cls.name.split("/")[0]  # type: ignore[return-value]

    @classmethod
    def short_name(cls) -> str:
        """The name without its zone."""
        return cls.name.split("/")[1]

    @classmethod
    def names(cls) -> list[str]:
        """The column names, in order."""
        return list(cls.columns)

    @classmethod
    def input_names(cls) -> list[str]:
        """The names of the tables it is made from."""
        return [each.name for each in cls.inputs]

    @classmethod
    def description(cls) -> str:
        """The class's docstring, up to its sections."""
        return cleandoc(cls.__doc__ or "").split("\n\nAttributes:")[0]

    @classmethod
    def most_rows(cls) -> int:
        """The most rows that an object can have: what states more is not read, and what has more is not
        written.
        """
        if cls.spread != "market":
            return MOST_ROWS if cls.spread == "all" else MOST_ROWS >> 3
        return (
            MOST_ROWS >> 2
            if cls.most_per_minute is None
            else cls.most_per_minute * (44_640 if cls.grain == "month" else 1_440)
        )

    # --- projections ------------------------------------------------------------------------------

    @classmethod
    def polars_schema(cls) -> pl.Schema:
        """Column names and Polars types, in order."""
        return pl.Schema({name: column.dtype for name, column in cls.columns.items()})

    @classmethod
    def arrow_schema(cls) -> pa.Schema:
        """The Arrow schema the Parquet files are written with."""
        return pa.schema(
            [
                pa.field(name, _TYPES[column.dtype][0], nullable=column.nullable)
                for name, column in cls.columns.items()
            ]
        )

    @classmethod
    def glue_columns(cls) -> list[dict[str, str]]:
        """Columns as AWS Glue wants them: `Name`, `Type`, `Comment` (partition keys are not among them)."""
        return [
            {"Name": name, "Type": cls.sql_type(name), "Comment": cls.comment(name)} for name in cls.columns
        ]

    @classmethod
    def sql_type(cls, column: str) -> str:
        """The column's type in Glue's and Trino's words."""
        return _TYPES[cls.columns[column].dtype][1]

    @classmethod
    def comment(cls, column: str) -> str:
        """Description and unit of a column, as one line."""
        declared = cls.columns[column]
        return f"{declared.description} [{declared.unit}]" if declared.unit else declared.description

    @classmethod
    def schema_text(cls) -> str:
        """The declaration's types as text: part of every cell's version, independent of any library's way to
        print them.
        """
        return ",".join(
            f"{name}:{cls.sql_type(name)}{'?' if column.nullable else ''}"
            for name, column in cls.columns.items()
        )

    @classmethod
    @cache
    def rules(cls) -> tuple[Rule, ...]:
        """All row rules: those of single columns (null, finite, bounds), then those across columns."""
        found: list[Rule] = []
        for name, column in cls.columns.items():
            value = pl.col(name)
            if not column.nullable:
                found.append(Rule(f"{name}_not_null", value.is_not_null(), f"{name} has a value"))
            if column.dtype == pl.Float64:
                found.append(Rule(f"{name}_finite", value.is_finite(), f"{name} is a finite number"))
            if column.at_least is not None:
                found.append(
                    Rule(
                        f"{name}_at_least_{column.at_least:g}",
                        value >= column.at_least,
                        f"{name} is at least {column.at_least:g}",
                    )
                )
            if column.above is not None:
                found.append(
                    Rule(
                        f"{name}_above_{column.above:g}",
                        value > column.above,
                        f"{name} is above {column.above:g}",
                    )
                )
        return (*found, *cls.row_rules)

    @classmethod
    def pandera_schema(cls, names: Collection[str] | None = None) -> Any:
        """The same declaration as a `pandera.polars.DataFrameSchema`, for tests, verification and users'
        frames.

        Args:
            names: Of these columns only, and of the rules that need no other; all if None.
        """
        import pandera.polars as pandera

        def check(rule: Rule) -> Any:
            return pandera.Check(
                lambda data: data.lazyframe.select(rule.is_kept), name=rule.name, description=rule.description
            )

        known = [name for name in cls.columns if names is None or name in names]
        columns = {
            name: pandera.Column(
                cls.columns[name].dtype, nullable=cls.columns[name].nullable, description=cls.comment(name)
            )
            for name in known
        }
        rules = [rule for rule in cls.rules() if set(rule.holds.meta.root_names()) <= set(known)]
        return pandera.DataFrameSchema(
            columns,
            checks=[check(rule) for rule in rules],
            unique=list(cls.key),
            strict=True,
            ordered=True,
            name=cls.name,
        )

    # --- the write boundary -----------------------------------------------------------------------

    @classmethod
    def empty(cls) -> pl.DataFrame:
        """A frame without rows, typed as declared."""
        return pl.DataFrame(schema=cls.polars_schema())

    @classmethod
    def with_unpublished(cls, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with all columns, in order; what is not published is null, never zero."""
        others = cls.empty().drop(rows.columns).clear(rows.height)
        return pl.concat([rows, others], how="horizontal").select(cls.names())

    @classmethod
    def split(cls, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Part rows that satisfy every rule from those that do not.

        Returns:
            The good rows, and the rejected ones with a column `rule` that names the first rule each one
            breaks.
        """
        held = frame.select(cls._verdicts()).row(0) if frame.height else ()
        broken = [rule for rule, ok in zip(cls.rules(), held, strict=False) if not ok]
        if not broken:
            return frame, frame.clear().with_columns(pl.lit("", pl.String).alias("rule"))
        verdict = pl.coalesce([pl.when(~rule.is_kept).then(pl.lit(rule.name)) for rule in broken])
        judged = frame.with_columns(verdict.alias("rule"))
        return judged.filter(pl.col("rule").is_null()).drop("rule"), judged.filter(
            pl.col("rule").is_not_null()
        )

    @classmethod
    @cache
    def _verdicts(cls) -> tuple[pl.Expr, ...]:
        return tuple(rule.is_kept.all().alias(rule.name) for rule in cls.rules())

    @classmethod
    def conform(cls, frame: pl.DataFrame, cell: Cell | None) -> pl.DataFrame:
        """Check a frame against the declaration and sort it by the key.

        Raises:
            SchemaError: Columns or types differ.
            DuplicateKeyError: Two rows share a key.
        """
        expected, where = cls.polars_schema(), str(cell or "")
        differences = [f"{name} is missing" for name in expected.names() if name not in frame.columns]
        differences += [f"{name} is not declared" for name in frame.columns if name not in expected]
        differences += [
            f"{name} is {found}, declared {expected[name]}"
            for name, found in frame.schema.items()
            if name in expected and found != expected[name]
        ]
        if differences:
            raise SchemaError(cls.name, where, differences)
        ordered = frame.select(expected.names())
        if not ordered.height:
            return ordered
        leading = ordered[cls.key[0]]
        # in order, and the first key column alone tells rows apart
        if (leading > leading.shift()).sum() == ordered.height - 1:
            return ordered
        ordered = ordered.sort(cls.key, maintain_order=True)
        repeated = ordered.select(cls.key).is_duplicated()
        if repeated.any():
            first = ordered.select(cls.key).filter(repeated).row(0)
            raise DuplicateKeyError(cls.name, where, int(repeated.sum()), ", ".join(map(str, first)))
        return ordered
