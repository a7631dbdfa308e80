"""Who launches a run says which cells, and nothing else: no file, no address, no extension, no code."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._config import ConfigType

from lakehouse.definitions import build_definitions
from lakehouse.opening import open_lake
from lakehouse.registry import REGISTRY
from lakehouse.settings import Settings
from lakehouse_tests.conftest import CLOSED

# how loud a run's log is on its own standard error
HARMLESS = {"loggers.console.config.log_level", "loggers.console.config.name"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> dg.RepositoryDefinition:
    """All definitions there can be: those of the catalog too."""
    settings = Settings(
        root=str(tmp_path_factory.mktemp("lake")),
        glue_database="prefix",
        binance_archive_url=CLOSED,
        binance_rest_url=CLOSED,
    )
    return build_definitions(open_lake(settings)).get_repository_def()


def leaves(of: ConfigType, path: str = "") -> Iterator[str]:
    """What can be stated in a config, as dotted paths; an empty shape takes nothing. Names of resources and
    ops that nobody declared reach nobody.
    """
    inner = getattr(of, "inner_type", None)
    if inner is not None:
        yield from leaves(inner, path)
    elif (fields := getattr(of, "fields", None)) is not None:
        assert of.kind.name == "STRICT_SHAPE" or path in ("resources", "ops"), f"{path} takes anything"
        for name, field in fields.items():
            yield from leaves(field.config_type, f"{path}.{name}".lstrip("."))
    else:
        yield path


def test_the_run_config_of_every_job_opens_nothing(repository: dg.RepositoryDefinition) -> None:
    jobs = repository.get_all_jobs()
    named = {"market_month", "quality", "rebuild", "refresh_now", "verify"}
    assert {job.name for job in jobs} == {"__ASSET_JOB", *named}
    assert {found for job in jobs for found in leaves(job.run_config_schema.config_type)} == HARMLESS


def test_every_resource_op_executor_and_check_is_walked_and_takes_no_config(
    repository: dg.RepositoryDefinition,
) -> None:
    job = repository.get_job("__ASSET_JOB")
    bare = {
        name: list(leaves(one.config_schema.config_type))
        for name, one in {**job.resource_defs, **{node.name: node.definition for node in job.nodes}}.items()
    }
    assert {name for name in bare if name in ("lake", "io_manager", "duckdb")} == {
        "lake",
        "io_manager",
        "duckdb",
    }
    assert len(bare) >= 3 + 2 * len(REGISTRY.tables)  # each table's asset and check
    assert {name for name, found in bare.items() if found} == set()
    assert list(leaves(job.executor_def.config_schema.config_type)) == []


UNSIGNED = {"allow_unsigned_extensions": "true", "custom_extension_repository": "http://127.0.0.1:9/evil"}
HOSTILE: dict[str, Any] = {
    "an unsigned extension": {"resources": {"duckdb": {"config": {"connection_config": UNSIGNED}}}},
    "another database": {"resources": {"duckdb": {"config": {"database": "sqlite:/etc/passwd"}}}},
    "a variable of the environment": {"resources": {"duckdb": {"config": {"database": {"env": "HOME"}}}}},
    "another lake": {"resources": {"lake": {"config": {"root": "/tmp/elsewhere"}}}},
    "another store": {"resources": {"io_manager": {"config": {"base_dir": "/tmp/elsewhere"}}}},
    "an address for an asset": {"ops": {"silver__market": {"config": {"url": "http://127.0.0.1:9"}}}},
    "another executor": {
        "execution": {
            "config": {"multiprocess": {"start_method": {"forkserver": {"preload_modules": ["antigravity"]}}}}
        }
    },
    "another logger": {"loggers": {"file": {"config": {"path": "/tmp/elsewhere"}}}},
    "an input from a file": {
        "ops": {"silver__candle": {"inputs": {"bronze_candle_api": {"pickle": {"path": "/tmp/evil"}}}}}
    },
}


@pytest.mark.parametrize("config", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_run_config_that_names_more_is_refused_before_anything_runs(
    repository: dg.RepositoryDefinition, config: dict[str, Any]
) -> None:
    job = repository.get_job("__ASSET_JOB")
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(job, config)


def test_the_empty_run_config_is_enough(repository: dg.RepositoryDefinition) -> None:
    job = repository.get_job("__ASSET_JOB")
    assert dg.validate_run_config(job, {})
