"""Every setting and its environment variable: the only module that names one."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lakehouse.model.errors import AddressCredentialsError, SettingError, TimeFormatError
from lakehouse.model.market import Market
from lakehouse.model.secrets import carries_credentials
from lakehouse.model.timerange import month_of, parse_instant


class Settings(BaseSettings):
    """What a deployment decides. Read from the environment, then from `.env` in the working folder.

    Attributes:
        root: The lake: a folder, or `s3://bucket/prefix`.
        markets: Markets that `lakehouse markets add` adds when it is given none.
        start: First month that has partitions.
        binance_archive_url: S3 endpoint that serves the bucket `data.binance.vision`.
        binance_rest_url: One base for Binance's REST APIs; None for its own three hosts.
        glue_database: Prefix of the Glue databases to register tables in; empty for none.
        clock: Whose time counts: this machine's (`local`), or that of the exchange's REST API (`exchange`), for a simulated exchange with a time of its own.
        refresh: Whether the sensors that keep the lake current run without being switched on in the UI.
        candles_every: Seconds between two looks for closed candles.
        add_markets: Globs over market keys; what an exchange newly lists and one of them matches joins the universe.
        dagster_home: Where Dagster keeps its instance.
    """

    model_config = SettingsConfigDict(env_prefix="LAKEHOUSE_", env_file=".env", extra="ignore", populate_by_name=True)

    root: str = "lake"
    markets: Annotated[tuple[str, ...], NoDecode] = ()
    start: str = "2017-08"
    binance_archive_url: str = "https://s3-ap-northeast-1.amazonaws.com"
    binance_rest_url: str | None = None
    glue_database: str = ""
    clock: Literal["local", "exchange"] = "local"
    refresh: bool = False
    candles_every: int = Field(default=3600, ge=1)
    add_markets: Annotated[tuple[str, ...], NoDecode] = ()
    dagster_home: Path = Field(default=Path(".dagster"), validation_alias=AliasChoices("dagster_home", "DAGSTER_HOME"))

    @field_validator("root")
    @classmethod
    def _check_root(cls, value: str) -> str:
        if not value.strip().rstrip("/"):
            raise SettingError("LAKEHOUSE_ROOT", value, "a folder, or s3://bucket/prefix")
        if "://" in value and carries_credentials(value):
            raise AddressCredentialsError("LAKEHOUSE_ROOT")
        return value

    @field_validator("markets", mode="before")
    @classmethod
    def _split_markets(cls, value: object) -> object:
        parts = _parts(value)
        for part in parts or ():  # type: ignore[attr-defined]
            Market.parse(part)
        return parts

    @field_validator("add_markets", mode="before")
    @classmethod
    def _split_globs(cls, value: object) -> object:
        return _parts(value)

    @field_validator("start")
    @classmethod
    def _check_start(cls, value: str) -> str:
        try:
            return month_of(parse_instant(value))
        except TimeFormatError:
            raise SettingError("LAKEHOUSE_START", value, "a month, YYYY-MM") from None

    @field_validator("binance_rest_url", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("binance_archive_url", "binance_rest_url")
    @classmethod
    def _check_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        name = f"LAKEHOUSE_{str(info.field_name).upper()}"
        if value is not None and carries_credentials(value):
            raise AddressCredentialsError(name)
        if value is not None and not _is_url(value):
            raise SettingError(name, value, "an address with http:// or https://")
        return value

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, for child processes."""
        named = {
            f"LAKEHOUSE_{name.upper()}": getattr(self, name)
            for name in ("root", "start", "glue_database", "binance_archive_url", "binance_rest_url", "clock", "refresh", "candles_every")
        }
        home = {"DAGSTER_HOME": self.dagster_home.expanduser().absolute(), "LAKEHOUSE_MARKETS": ",".join(self.markets), "LAKEHOUSE_ADD_MARKETS": ",".join(self.add_markets)}
        return {name: "" if value is None else str(value) for name, value in (named | home).items()}


def _is_url(text: str) -> bool:
    """Whether a text is an address that an HTTP client takes; the archive's panics at others."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not any(char.isspace() for char in text)
    except ValueError:  # a port that is no number, brackets that do not close
        return False


def _parts(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
