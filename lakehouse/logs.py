"""Logs for machines: each line that a process of ours logs is one JSON object, whoever logs it.

Dagster's own `--log-format json` is another one for each of its processes, leaves runs and ticks as text,
and puts the trace of an exception on lines of its own. Dagster, uvicorn and libraries set up handlers
wherever they start something, so it is the writing of a record that is replaced, for every stream at once.
"""

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from lakehouse.model.errors import LakehouseError
from lakehouse.model.market import Market
from lakehouse.model.secrets import hide

LogFormat = Literal["text", "json"]
_IDLE = re.compile(
    r"Checking for new runs for sensor: |No run requests returned for |"
    r"Sensor \S+ skipped: (Sensor function returned an empty result|Nothing |There is no market yet)|"
    r"(\S+ - ){0,2}(Prefetching asset records for |Done prefetching asset records)"
)
"""What Dagster says of a look that finds nothing to do; every sensor looks, one of them each ten seconds."""

_LOG = logging.getLogger("lakehouse")
_ENDS = {KeyboardInterrupt, SystemExit}


def log_as(form: LogFormat) -> None:
    """Have this process log in a format; once or several times. Text is what everybody writes by itself."""
    if form == "text" or is_json():
        return
    logging.StreamHandler.format = _written  # type: ignore[method-assign,assignment]
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(logging.StreamHandler())
    others = sys.excepthook

    def fallen(kind: Any, error: Any, trace: Any) -> None:
        if kind in _ENDS:
            others(kind, error, trace)
        else:
            _LOG.critical(str(error), exc_info=(kind, error, trace))

    sys.excepthook = fallen
    threading.excepthook = lambda fell: fallen(fell.exc_type, fell.exc_value, fell.exc_traceback)
    sys.unraisablehook = lambda lost: fallen(lost.exc_type, lost.exc_value, lost.exc_traceback)


def hush_idle_looks() -> None:
    """Have what is said of looks that find nothing to do logged as details; once or several times."""
    change_records(_Hushed)


def change_records(kind: Callable[[Any], Any]) -> None:
    """Have records made by a factory around the one there is, unless it is among them already."""
    top = made = logging.getLogRecordFactory()
    while not isinstance(made, kind):  # type: ignore[arg-type]
        if (within := getattr(made, "make", None)) is None:
            logging.setLogRecordFactory(kind(top))
            return
        made = within


class _Hushed:
    """Makes records, those of idle looks as details."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __call__(self, *args: Any, **more: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.make(*args, **more)
        if record.levelno == logging.INFO and _IDLE.match(str(record.msg)):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return record


def is_json() -> bool:
    """Whether this process logs as JSON."""
    return logging.StreamHandler.format is _written


def log_line(said: str, level: int = logging.INFO, **what: str) -> None:
    """Log what a command says beside its report.

    Args:
        said: The message.
        level: Of `logging`.
        what: What is known of it: `table`, `cell`.
    """
    record = _LOG.makeRecord(_LOG.name, level, "", 0, said, (), None, extra=what)
    sys.stderr.write(f"{line_of(record)}\n")
    sys.stderr.flush()


def _written(handler: "logging.StreamHandler[Any]", record: logging.LogRecord) -> str:
    if isinstance(handler, logging.FileHandler):  # a file of somebody's own
        return logging.Handler.format(handler, record)
    return line_of(record)


def line_of(record: logging.LogRecord) -> str:
    """A record as one JSON object without secrets, ASCII, so that no reader finds a line's end within it."""
    told = getattr(record, "dagster_meta", None) or {}
    event = told.get("dagster_event")
    said: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": told.get("orig_message") or _message(record),
        "run_id": told.get("run_id"),
        "job": told.get("job_name"),
        "step": told.get("step_key"),
        "event": event and event.event_type_value,
        **_of_what(record, told, event),
        "traceback": _trace(record, event),
    }
    return json.dumps({name: hide(str(value)) for name, value in said.items() if value})


def _message(record: logging.LogRecord) -> str:
    if isinstance(record.msg, Mapping):  # structlog's
        return str(record.msg.get("event", record.msg))
    try:
        return record.getMessage().rstrip("\n")
    except Exception as error:  # a message that does not fit its values: say both
        return f"{record.msg!r} {record.args!r}: {error}"


def _of_what(record: logging.LogRecord, told: Mapping[str, Any], event: Any) -> dict[str, str | None]:
    """The table and cell that a record is about, as far as it says."""
    tags = told.get("job_tags") or {}
    first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    key = event and event.asset_key
    step = told.get("step_key") or ""
    cell = (
        getattr(record, "cell", None)
        or (event and event.partition)
        or tags.get("dagster/partition")
        or (first if first == last else None)
    )
    date, _, market = str(cell or "").partition("|")
    if not market and "-" in date and ":" in date:  # of a market alone
        date, market = "", date
    return {
        "table": getattr(record, "table", None)
        or ("/".join(key.path) if key else "/".join(step.split("__")) if "__" in step else None),
        "date": date or None,
        "market": market or None,
        "exchange": _exchange(market),
    }


def _exchange(market: str) -> str | None:
    try:
        return Market.parse(market).exchange if market else None
    except LakehouseError:
        return None


def _trace(record: logging.LogRecord, event: Any) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    error = getattr(event and event.event_specific_data, "error", None)
    return (error.to_string() if error else None) or record.exc_text
