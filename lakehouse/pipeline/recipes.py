"""The recipe of every declared table."""

from collections.abc import Mapping
from functools import cache

from lakehouse.model.table import Table
from lakehouse.pipeline.by_month import FromDisputes, FromFooters, Panel
from lakehouse.pipeline.derived import Computed, Refined
from lakehouse.pipeline.files import FromFiles
from lakehouse.pipeline.pages import FromRows, FromWitness
from lakehouse.pipeline.recipe import Recipe
from lakehouse.registry import Registry


@cache
def recipes(registry: Registry) -> Mapping[type[Table], Recipe]:
    """How the cells of each table of a registry are made, upstream first.

    `silver/market` has no cells, and is asked for by `refresh_markets`.
    """
    found: list[Recipe] = []
    for dataset in registry.datasets:
        if dataset.witness is not None:
            found.append(FromWitness(dataset, dataset.witness))
        found.append(FromFiles(dataset))
        if dataset.api is not None:
            found.append(FromRows(dataset, dataset.api))
        found.append(Refined(dataset))
    found += [FromFooters(registry.gap), *map(FromDisputes, registry.disputed)]
    found += [
        Panel(feature) if feature.spread == "all" else Computed(feature) for feature in registry.features
    ]
    by_table = {recipe.table: recipe for recipe in found}
    return {table: by_table[table] for table in registry.tables if table in by_table}
