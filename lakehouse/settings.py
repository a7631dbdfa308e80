"""Every setting and its environment variable: the only module that names one."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lakehouse.logs import LogFormat
from lakehouse.model.addresses import AddressKind, address_setting
from lakehouse.model.errors import AddressCredentialsError, EnvFileError, SettingError, TimeFormatError
from lakehouse.model.market import Market, is_key
from lakehouse.model.secrets import carries_credentials
from lakehouse.model.timerange import month_of, parse_instant

ENV_FILE = "LAKEHOUSE_ENV_FILE"


class LogSettings(BaseSettings):
    """How a process logs, known before all else is read."""

    model_config = SettingsConfigDict(env_prefix="LAKEHOUSE_", extra="ignore", populate_by_name=True)

    log_format: LogFormat = "text"


class Settings(LogSettings):
    """What a deployment decides. Read from the environment, then from the file that `LAKEHOUSE_ENV_FILE`
    names there, if any.

    A file that merely lies in the working folder is not read: who works in a folder did not choose what lies
    there.

    Attributes:
        root: The lake: a folder, or `s3://bucket/prefix`.
        markets: Markets that `lakehouse markets add` adds when it is given none: keys, patterns, unified
            symbols.
        start: First month that has partitions.
        end: Last month that has partitions; empty where that is the open one.
        addresses: Where archives and REST APIs of exchanges are, by the name of the setting
            (`LAKEHOUSE_<EXCHANGE>_ARCHIVE_URL`, `LAKEHOUSE_<EXCHANGE>_REST_URL`); `address` reads them.
        glue_database: Prefix of the Glue databases to register tables in; empty for none.
        trino_url: Where a Trino server answers that reads the lake by Glue; empty for none.
        trino_user: Who asks it, as its log has it.
        trino_catalog: Its name of the catalog.
        clock: Whose time counts: this machine's (`local`), or what the REST API of each exchange concerned
            says (`exchange`), for simulated ones with a time of their own.
        refresh: Whether the sensors that keep the lake current run without being switched on in the UI.
        candles_every: Seconds between two looks for closed candles.
        add_markets: Patterns of market keys, or of unified symbols with their exchange; what an exchange
            newly lists and one of them matches joins the universe.
        workers: Cells that a step computes at once; 0 for one per core, as memory allows.
        machines: How many machines of one address ask exchanges at once: each keeps to its part of the limits
            that no answer tells of.
        git_url: Repository on GitHub or GitLab that assets link to as their source; empty to name local
            files.
        git_commit: Branch or commit there that is deployed.
        dagster_home: Where Dagster keeps its instance.
        ui_url: Where people reach the UI, for links in alerts; `lakehouse ui` itself where it is left out.
        alert_urls: Whom alerts go to, as apprise's addresses, which hold secrets; nobody if left out.
        disk_quota: Gigabytes that the lake is to take at most; 0 for what the disk has.
        log_format: How processes log: as `text`, or each line as an object of `json`.
        ui_token: What a stranger must bring to the UI; none where only its own user comes in.
    """

    root: str = "lake"
    markets: Annotated[tuple[str, ...], NoDecode] = ()
    start: str = "2017-08"
    end: str = ""
    addresses: Mapping[str, str] = {}
    glue_database: str = ""
    trino_url: str = ""
    trino_user: str = "lakehouse"
    trino_catalog: str = "lake"
    clock: Literal["local", "exchange"] = "local"
    refresh: bool = False
    candles_every: int = Field(default=3600, ge=1)
    add_markets: Annotated[tuple[str, ...], NoDecode] = ()
    workers: int = Field(default=0, ge=0)
    machines: int = Field(default=1, ge=1)
    git_url: str = ""
    git_commit: str = "main"
    dagster_home: Path = Field(
        default=Path(".dagster"), validation_alias=AliasChoices("dagster_home", "DAGSTER_HOME")
    )
    ui_url: str = "http://127.0.0.1:3000"
    alert_urls: SecretStr | None = None
    disk_quota: float = Field(default=0, ge=0)
    ui_token: SecretStr | None = None

    def __init__(self, **values: Any) -> None:
        values = {"_env_file": _env_file()} | values
        told = {name: value for name, value in values.items() if _ADDRESS.fullmatch(f"LAKEHOUSE_{name}")}
        file = values["_env_file"]
        addresses = _addresses(dotenv_values(file) if file else {}) | _addresses(os.environ)
        addresses |= _addresses({f"LAKEHOUSE_{name}": value or "" for name, value in told.items()})
        rest = {name: value for name, value in values.items() if name not in told}
        super().__init__(**({"addresses": addresses} | rest))

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
            if not isinstance(part, str) or is_key(part):
                Market.parse(part)
        return parts

    @field_validator("add_markets", mode="before")
    @classmethod
    def _split_globs(cls, value: object) -> object:
        return _parts(value)

    @field_validator("git_url")
    @classmethod
    def _check_git_url(cls, value: str) -> str:
        host = urlsplit(value).hostname or "" if _is_url(value) else ""
        if value and not ("github" in host or "gitlab" in host):
            raise SettingError("LAKEHOUSE_GIT_URL", value, "the address of a repository on GitHub or GitLab")
        return value

    @field_validator("ui_url")
    @classmethod
    def _check_ui_url(cls, value: str) -> str:
        _check_address("LAKEHOUSE_UI_URL", value)
        return value.rstrip("/")

    @field_validator("trino_url")
    @classmethod
    def _check_trino_url(cls, value: str) -> str:
        _check_address("LAKEHOUSE_TRINO_URL", value, is_optional=True)
        return value.rstrip("/")

    @field_validator("start", "end")
    @classmethod
    def _check_month(cls, value: str, of: ValidationInfo) -> str:
        try:
            return month_of(parse_instant(value)) if value or of.field_name == "start" else ""
        except TimeFormatError:
            raise SettingError(f"LAKEHOUSE_{of.field_name}".upper(), value, "a month, YYYY-MM") from None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.end and self.end < self.start:
            raise SettingError("LAKEHOUSE_END", self.end, f"no month before LAKEHOUSE_START, {self.start}")
        return self

    @field_validator("addresses")
    @classmethod
    def _check_addresses(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, address in value.items():
            _check_address(name, address, is_optional=not name.endswith("_ARCHIVE_URL"))
        return value

    def address(self, exchange: str, kind: AddressKind) -> str | None:
        """Where an exchange's archive or REST API is; None where the exchange's own is meant."""
        return self.addresses.get(address_setting(exchange, kind)) or None

    @property
    def names_home(self) -> bool:
        """Whether the environment, or the file that it names, says where Dagster's home is."""
        told = Settings()
        return (
            "dagster_home" in told.model_fields_set
            and told.dagster_home.absolute() == self.dagster_home.absolute()
        )

    def for_children(self, environment: Mapping[str, str]) -> dict[str, str]:
        """An environment for child processes that run in another folder: with these settings, whole paths,
        whom alerts go to, and no secret of the UI's.
        """
        kept = {
            name: value for name, value in environment.items() if name not in (ENV_FILE, "LAKEHOUSE_UI_TOKEN")
        }
        if "PYTHONPATH" in kept:
            kept["PYTHONPATH"] = os.pathsep.join(
                str(Path(part).absolute()) for part in kept["PYTHONPATH"].split(os.pathsep) if part
            )
        root = self.root if "://" in self.root else str(Path(self.root).expanduser().absolute())
        told = {"LAKEHOUSE_ALERT_URLS": self.alert_urls.get_secret_value()} if self.alert_urls else {}
        return kept | self.environment() | {"LAKEHOUSE_ROOT": root} | told

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, without secrets."""
        named = {
            f"LAKEHOUSE_{name.upper()}": getattr(self, name)
            for name in (
                "root",
                "start",
                "end",
                "glue_database",
                "trino_url",
                "trino_user",
                "trino_catalog",
                "clock",
                "refresh",
                "candles_every",
                "workers",
                "machines",
                "git_url",
                "git_commit",
                "ui_url",
                "disk_quota",
                "log_format",
            )
        }
        home = {
            "DAGSTER_HOME": self.dagster_home.expanduser().absolute(),
            "LAKEHOUSE_MARKETS": ",".join(self.markets),
            "LAKEHOUSE_ADD_MARKETS": ",".join(self.add_markets),
        }
        return {
            name: "" if value is None else str(value)
            for name, value in (named | home | dict(self.addresses)).items()
        }


def log_format() -> LogFormat:
    """How this process is to log."""
    return LogSettings(_env_file=_env_file()).log_format  # type: ignore[call-arg]


_ADDRESS = re.compile(r"LAKEHOUSE_\w+_(ARCHIVE|REST)_URL", re.IGNORECASE | re.ASCII)


def _addresses(values: Mapping[str, Any]) -> dict[str, str]:
    """Those of some settings that are addresses of exchanges."""
    return {name.upper(): value or "" for name, value in values.items() if _ADDRESS.fullmatch(name)}


def _env_file() -> str | None:
    """The file of settings that the environment names.

    Raises:
        EnvFileError: It cannot be read.
    """
    named = os.environ.get(ENV_FILE) or None
    if named is not None:
        if not Path(named).is_absolute():
            raise EnvFileError(named, "it is no whole path, so it would be another file in every folder")
        try:
            Path(named).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EnvFileError(
                named, getattr(error, "strerror", None) or "it is not text in UTF-8"
            ) from error
    return named


def _check_address(name: str, value: str, is_optional: bool = False) -> None:
    """Refuse what is no address, or one with credentials in it."""
    if carries_credentials(value):
        raise AddressCredentialsError(name)
    if not _is_url(value) and (value or not is_optional):
        raise SettingError(name, value, "an address with http:// or https://")


def _is_url(text: str) -> bool:
    """Whether a text is an address that an HTTP client takes; the archive's panics at others."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not any(char.isspace() for char in text)
        )
    except ValueError:  # a port that is no number, brackets that do not close
        return False


def _parts(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
