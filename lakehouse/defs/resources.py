"""Resources that are what they are: who launches a run states no file, address or extension for them, and is
refused if he tries.
"""

from collections.abc import Callable

import dagster as dg


def fixed(value: object) -> dg.ResourceDefinition:
    """A resource without configuration."""
    return dg.ResourceDefinition(lambda _: value, config_schema={})


def fixed_io_manager(opened: Callable[[dg.InitResourceContext], dg.IOManager]) -> dg.IOManagerDefinition:
    """An IO manager without configuration, opened for each process that runs steps."""
    return dg.IOManagerDefinition(resource_fn=opened, config_schema={})
