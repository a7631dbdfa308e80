"""Runs as Fargate tasks, each of the size that what it makes needs.

Dagster's launcher takes sizes from a run's tags alone, and no asset has any. Here the run is looked at: which
tables it makes, and how many cells. A size in its tags (`ecs/cpu`, `ecs/memory`) goes before that.
"""

from collections.abc import Mapping
from typing import Any, cast

import dagster as dg
from dagster._core.launcher import LaunchRunContext
from dagster._core.launcher.base import ResumeRunContext
from dagster._serdes import ConfigurableClassData
from dagster_aws.ecs import EcsRunLauncher

from lakehouse.defs.partitions import MARKETS
from lakehouse.defs.under_way import cells_of_run
from lakehouse.model.errors import TaskTagError
from lakehouse.pipeline.sizes import size_of
from lakehouse.registry import REGISTRY

CONTAINER = "run"
FIXED = ("ecs/container_overrides", "ecs/run_task_kwargs", "ecs/task_overrides")
"""Tags by which Dagster's launcher lets whoever starts a run choose its command, role, image and network."""
_SETTINGS = ("cluster", "task_definition", "subnets", "security_groups")


class FargateRunLauncher(EcsRunLauncher):
    """Starts a Fargate task for each run, of a task definition that is there already.

    Nothing is registered and no secret is looked up: the task definition names image, role, environment and
    secrets, and whoever launches needs no permission but to run it. `subnets` and `security_groups` are ids
    with commas between, so that each is one variable.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return dict.fromkeys(_SETTINGS, dg.StringSource)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "FargateRunLauncher":
        network = {
            "subnets": config_value["subnets"].split(","),
            "securityGroups": config_value["security_groups"].split(","),
            "assignPublicIp": "DISABLED",
        }
        return cls(
            inst_data,
            task_definition=config_value["task_definition"],
            container_name=CONTAINER,
            secrets_tag=cast("Any", None),  # none is looked up, though its type says otherwise
            use_current_ecs_task_config=False,
            run_task_kwargs={
                "cluster": config_value["cluster"],
                "launchType": "FARGATE",
                "networkConfiguration": {"awsvpcConfiguration": network},
                "propagateTags": "TASK_DEFINITION",  # who pays for it
            },
        )

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start a task for a run.

        Raises:
            TaskTagError: A tag of the run would make the task another than is declared.
        """
        _refuse(context.dagster_run)
        super().launch_run(context)

    def resume_run(self, context: ResumeRunContext) -> None:
        """Start a task in place of one that is lost; as `launch_run`."""
        _refuse(context.dagster_run)
        super().resume_run(context)

    def get_cpu_and_memory_overrides(self, container_context: Any, run: dg.DagsterRun) -> Mapping[str, str]:
        """The size of a run's task."""
        order = self._instance.get_dynamic_partitions(str(MARKETS.name))
        cells = cells_of_run(self._instance, run, order)
        tables = REGISTRY.by_name
        size = size_of({tables[name]: len(some) for name, some in cells.items() if name in tables})
        told = super().get_cpu_and_memory_overrides(container_context, run)
        return {"cpu": str(size.cpu), "memory": str(size.memory)} | dict(told)


def _refuse(run: dg.DagsterRun) -> None:
    """Refuse a run that would be more than which cells it makes, and how large its task is."""
    if found := [name for name in FIXED if name in run.tags]:
        raise TaskTagError(run.run_id, found)
