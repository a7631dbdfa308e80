"""Serves `schema.json` as the provider hashicorp/aws by Terraform's plugin protocol, on a socket, until it
is ended.

    python server.py SOCKET

It runs in the environment of `requirements-infra.txt`, started once for many commands
(TF_REATTACH_PROVIDERS). A resource is what was written for it, with made-up values where AWS would choose:
the same for the same resource.
"""

import hashlib
import json
import re
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import msgpack
from tf.gen import grpc_controller_pb2, grpc_controller_pb2_grpc, grpc_stdio_pb2_grpc, tfplugin_pb2_grpc
from tf.gen import tfplugin_pb2 as pb

SCHEMA: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("schema.json").read_text("utf-8"))
PROVIDER: dict[str, Any] = {
    "attributes": {"region": ["string", "o"], "allowed_account_ids": [["set", "string"], "o"]},
    "blocks": {
        "default_tags": [
            "list",
            1,
            False,
            {"attributes": {"tags": [["map", "string"], "o"]}, "blocks": {}},
        ]
    },
}
NESTING = {
    "list": pb.Schema.NestedBlock.LIST,
    "set": pb.Schema.NestedBlock.SET,
    "single": pb.Schema.NestedBlock.SINGLE,
}
UNKNOWN = msgpack.ExtType(0, b"\x00")
ABILITIES = pb.ServerCapabilities(plan_destroy=True, get_provider_schema_optional=True)

# how AWS names what others refer to; anything else has an ARN of its type and a hash
ARNS = {
    "aws_ecs_cluster": "arn:aws:ecs:{region}:{account}:cluster/{name}",
    "aws_ecs_task_definition": "arn:aws:ecs:{region}:{account}:task-definition/{family}:1",
    "aws_cloudwatch_log_group": "arn:aws:logs:{region}:{account}:log-group:{name}",
    "aws_iam_role": "arn:aws:iam::{account}:role/{name}",
    "aws_s3_bucket": "arn:aws:s3:::{bucket}",
    "aws_secretsmanager_secret": "arn:aws:secretsmanager:{region}:{account}:secret:{name}-AbCdEf",
    "aws_sns_topic": "arn:aws:sns:{region}:{account}:{name}",
    "aws_kms_key": "arn:aws:kms:{region}:{account}:key/{digest}",
    "aws_db_instance.secret_arn": "arn:aws:secretsmanager:{region}:{account}:secret:rds!db-{digest}",
    "aws_secretsmanager_secret.kms_key_id": "arn:aws:kms:{region}:{account}:key/{digest}",
}
# what stands for a resource where another names its id
IDS = {"aws_s3_bucket": "bucket", "aws_iam_role": "name", "aws_cloudwatch_log_group": "name"}


def schema_of(block: dict[str, Any]) -> Any:
    """A block as the protocol has it."""
    found = pb.Schema.Block(version=0)
    for name, (type_, flags) in block["attributes"].items():
        found.attributes.append(
            pb.Schema.Attribute(
                name=name,
                type=json.dumps(type_).encode(),
                required="r" in flags,
                optional="o" in flags,
                computed="c" in flags,
            )
        )
    for name, (nesting, most, must, inner) in block["blocks"].items():
        counted = nesting != "single"
        found.block_types.append(
            pb.Schema.NestedBlock(
                type_name=name,
                block=schema_of(inner),
                nesting=NESTING[nesting],
                min_items=int(must and counted),
                max_items=most if counted else 0,
            )
        )
    return found


def read(value: Any) -> Any:
    """A value that came."""
    return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False) if value.msgpack else None


def written(value: Any) -> Any:
    """A value that goes."""
    return pb.DynamicValue(msgpack=msgpack.packb(value))


class Provider(tfplugin_pb2_grpc.ProviderServicer):
    """AWS without AWS."""

    def __init__(self) -> None:
        self.account, self.region, self.tags = "000000000000", "ap-northeast-1", {}

    def GetMetadata(self, request: Any, context: Any) -> Any:
        return pb.GetMetadata.Response(
            server_capabilities=ABILITIES,
            resources=[pb.GetMetadata.ResourceMetadata(type_name=name) for name in SCHEMA["resource"]],
            data_sources=[pb.GetMetadata.DataSourceMetadata(type_name=name) for name in SCHEMA["data"]],
        )

    def GetProviderSchema(self, request: Any, context: Any) -> Any:
        whole = {
            kind: {name: pb.Schema(version=0, block=schema_of(block)) for name, block in SCHEMA[kind].items()}
            for kind in ("resource", "data")
        }
        return pb.GetProviderSchema.Response(
            provider=pb.Schema(version=0, block=schema_of(PROVIDER)),
            resource_schemas=whole["resource"],
            data_source_schemas=whole["data"],
            server_capabilities=ABILITIES,
        )

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:
        told = read(request.config)
        self.account = (told["allowed_account_ids"] or [self.account])[0]
        self.region = told["region"] or self.region
        self.tags = told["default_tags"][0]["tags"] if told["default_tags"] else {}
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:
        return pb.UpgradeResourceState.Response(upgraded_state=written(json.loads(request.raw_state.json)))

    def ReadResource(self, request: Any, context: Any) -> Any:
        return pb.ReadResource.Response(new_state=request.current_state)

    def PlanResourceChange(self, request: Any, context: Any) -> Any:
        planned = read(request.proposed_new_state)
        if planned is None:  # it is to go
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state)
        for name, (_, flags) in SCHEMA["resource"][request.type_name]["attributes"].items():
            if name == "tags_all":
                own = planned.get("tags") or {}
                planned[name] = UNKNOWN if isinstance(own, msgpack.ExtType) else self.tags | own
            elif "c" in flags and planned.get(name) is None:
                planned[name] = UNKNOWN
        return pb.PlanResourceChange.Response(planned_state=written(planned))

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:
        state = read(request.planned_state)
        if state is not None:
            seed = json.dumps({name: value for name, value in state.items() if value != UNKNOWN}, default=str)
            self._fill(request.type_name, SCHEMA["resource"][request.type_name], state, seed)
        return pb.ApplyResourceChange.Response(new_state=written(state))

    def ReadDataSource(self, request: Any, context: Any) -> Any:
        state = read(request.config)
        block = SCHEMA["data"][request.type_name]
        for name, (_, flags) in block["attributes"].items():
            if state.get(name) is None and "c" in flags:
                state[name] = UNKNOWN
        self._fill(request.type_name, block, state, json.dumps(read(request.config), default=str))
        return pb.ReadDataSource.Response(state=written(state))

    def StopProvider(self, request: Any, context: Any) -> Any:
        return pb.StopProvider.Response()

    def _fill(self, of: str, block: dict[str, Any], state: dict[str, Any], seed: str) -> None:
        """What AWS would choose; the id last, for an ARN may be it."""
        told = {name: value for name, value in state.items() if isinstance(value, str)}
        for name in sorted(state, key=lambda name: name == "id"):
            if state[name] == UNKNOWN:
                type_ = block["attributes"][name][0]
                state[name] = self._made_up(of, name, type_, told, seed)

    def _made_up(self, of: str, name: str, type_: Any, told: dict[str, str], seed: str) -> Any:
        digest = hashlib.sha256(f"{of} {name} {seed}".encode()).hexdigest()
        if type_ == "string":
            form = ARNS.get(of if name == "arn" else f"{of}.{name}", "")
            if form or name == "arn" or name.endswith("_arn"):
                plain = "arn:aws:{service}:{region}:{account}:{of}/{digest}"
                return (form or plain).format(
                    region=self.region,
                    account=self.account,
                    service=of.split("_")[1],
                    of=re.sub("^aws_", "", of),
                    digest=digest[:8],
                    **{key: value for key, value in told.items() if f"{{{key}}}" in form},
                )
            return told[IDS[of]] if name == "id" and of in IDS else f"{name.replace('_', '-')}-{digest[:8]}"
        if type_ == "number":
            return int(digest[:4], 16)
        if type_ == "bool":
            return False
        if type_[0] in ("list", "set") and type_[1][0] == "object":
            return [{key: self._made_up(of, key, inner, told, seed) for key, inner in type_[1][1].items()}]
        return {"list": [], "set": [], "map": {}}.get(type_[0])


class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):
    """Who starts it ends it, not the command that it serves."""

    def Shutdown(self, request: Any, context: Any) -> Any:
        return grpc_controller_pb2.Empty()


class Stdio(grpc_stdio_pb2_grpc.GRPCStdioServicer):
    """It says nothing."""

    def StreamStdio(self, request: Any, context: Any) -> Any:
        return iter(())


def serve(socket: str) -> None:
    """Serve until the process is ended."""
    server = grpc.server(
        futures.ThreadPoolExecutor(8),
        options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)],
    )
    tfplugin_pb2_grpc.add_ProviderServicer_to_server(Provider(), server)
    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(Controller(), server)
    grpc_stdio_pb2_grpc.add_GRPCStdioServicer_to_server(Stdio(), server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    server.wait_for_termination()


if __name__ == "__main__":
    serve(sys.argv[1])
