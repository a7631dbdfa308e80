"""Whether a service of a deployment does its work: what the health check of its container asks.

Who asks stands beside the service, in its container, and has its environment.
"""

import http.client
import os
from pathlib import Path

from lakehouse.model.errors import UnhealthyError

PORTS = {"webserver": 3000, "code": 4000}
_WITHIN = 10.0  # seconds
# seconds: daemons beat every half a minute, and a tick over many markets takes its time
_BEATS_WITHIN = 300.0
_HERE = "127.0.0.1"


def check_webserver(port: int, token: str | None) -> None:
    """Ask the webserver which version it is, as who has the token.

    Raises:
        UnhealthyError: It does not answer, or not with 200.
    """
    link = http.client.HTTPConnection(_HERE, port, timeout=_WITHIN)
    try:
        link.request("GET", "/server_info", headers={"Authorization": f"Bearer {token}"} if token else {})
        status = link.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise UnhealthyError("webserver", f"an answer on port {port}", _of(error)) from error
    finally:
        link.close()
    if status != http.client.OK:
        raise UnhealthyError("webserver", f"status 200 of /server_info on port {port}", f"status {status}")


def check_code(port: int) -> None:
    """Ask the code server by gRPC's own health protocol, which costs a fraction of Dagster's client.

    Raises:
        UnhealthyError: It does not answer, or says that it does not serve.
    """
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    question = health_pb2.HealthCheckRequest(service="DagsterApi")
    with grpc.insecure_channel(f"{_HERE}:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(question, timeout=_WITHIN)
        except grpc.RpcError as error:
            raise UnhealthyError("code", f"an answer on port {port}", error.code().name) from error
    said = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise UnhealthyError("code", "SERVING", said)


def check_daemon(home: Path) -> None:
    """Look when the daemons of an instance last said that they are alive.

    Args:
        home: Of the instance.

    Raises:
        UnhealthyError: One of them was silent for five minutes, or never spoke.
    """
    from dagster import DagsterInstance
    from dagster._daemon.controller import get_daemon_statuses

    os.environ["DAGSTER_HOME"] = str(home)  # the instance file names it
    with DagsterInstance.from_config(str(home)) as instance:
        found = get_daemon_statuses(
            instance,
            instance.get_required_daemon_types(),
            ignore_errors=True,
            heartbeat_tolerance_seconds=_BEATS_WITHIN,
        )
    silent = sorted(name for name, status in found.items() if not status.healthy)
    if silent:
        raise UnhealthyError(
            "daemon", f"a sign of life within {_BEATS_WITHIN:.0f} s", f"none of {', '.join(silent)}"
        )


def _of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
