"""The command line: all commands, and how a command ends."""

import logging
import sys
import traceback
from typing import Annotated

import typer
from pydantic import ValidationError

from lakehouse.cli.collecting import starting
from lakehouse.cli.commands import alerting, backfilling, building, exporting, looking, reading, serving
from lakehouse.cli.console import err, out, say, say_env_file, say_warnings
from lakehouse.logs import is_json, log_as
from lakehouse.model.errors import LakehouseError, UsageError
from lakehouse.model.secrets import hide
from lakehouse.privacy import keep_private

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
    help="A crypto market-data lakehouse: exchange archives to Parquet to SQL, every row proven or said to "
    "be absent.",
)
for group in (building, backfilling, looking, reading, exporting, serving, alerting):
    app.add_typer(group.commands)


def _say_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        out.print(f"lakehouse {version('lakehouse')}")
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    from lakehouse.settings import log_format

    log_as(log_format())
    say_env_file()


def main() -> None:
    """Run a command. Exit code 0: all cells right; 1: something failed, named; 2: wrong use."""
    keep_private()
    say_warnings()
    try:
        with starting():
            app()
    except UsageError as error:
        say(str(error), "error:", err)
        sys.exit(2)
    except ValidationError as error:
        for found in error.errors():
            name = str(found["loc"][0]).upper()  # of the field, or of the variable where that is an alias
            variable = name if name == "DAGSTER_HOME" else f"LAKEHOUSE_{name}"
            say(f"{variable}: {found['msg'].removeprefix('Value error, ')}", "error:", err)
        sys.exit(2)
    except LakehouseError as error:
        say(str(error), "error:", err)
        sys.exit(1)
    except Exception:  # a mistake of ours: its trace is for a report, which others read
        if is_json():
            logging.getLogger("lakehouse").critical("The command fell.", exc_info=True)
        else:
            err.print(hide(traceback.format_exc()), soft_wrap=True)
        sys.exit(1)
