"""The SQL engines that settings name, beside the one within the process."""

from lakehouse.model.errors import NoTrinoError
from lakehouse.query.trino import Trino
from lakehouse.settings import Settings


def trino_of(settings: Settings) -> Trino:
    """The Trino server of some settings.

    Raises:
        NoTrinoError: They do not say where it is, or what the lake's tables are registered under.
    """
    for name in ("trino_url", "glue_database"):
        if not getattr(settings, name):
            raise NoTrinoError(f"LAKEHOUSE_{name}".upper())
    return Trino(settings.trino_url, settings.glue_database, settings.trino_user, settings.trino_catalog)
