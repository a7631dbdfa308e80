"""AWS on this machine that asks who may: S3, Glue, ECS and IAM of moto, with a role whose policy is enforced.

Two things moto does not know are told to it here: what a request to Glue or ECS is about, and that a request
which deletes several objects is about each of them. It takes the conditions of a policy for fulfilled, and
S3 there asks no key.
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import requests
from botocore.exceptions import ClientError
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.glue.responses import GlueResponse
from moto.iam.access_control import IAMRequestBase
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

ACCOUNT = "123456789012"  # moto's own
REGION = "ap-northeast-1"
# every request is asked about, or none
_ASKED, _FREE = "0", "inf"
_REFUSED = ("AccessDenied", "AccessDeniedException", "403")


def _glue_resource(self: Any) -> str:
    """What a request to Glue is about; moto says of any that it is about everything."""
    told = json.loads(self.body or "{}")
    database, table = told.get("DatabaseName") or told.get("Name"), told.get("TableName")
    if self._get_action().endswith("Table"):
        database, table = told["DatabaseName"], told.get("Name") or told["TableInput"]["Name"]
    if self._get_action() == "CreateDatabase":
        database = told["DatabaseInput"]["Name"]
    kind = f"table/{database}/{table}" if table else f"database/{database}"
    return f"arn:aws:glue:{REGION}:{ACCOUNT}:{kind}"


def _ecs_resource(self: Any) -> str:
    """What a request to ECS is about."""
    told = json.loads(self.body or "{}")
    if self._get_action() == "RunTask":
        return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{told['taskDefinition']}:1"
    return str((told.get("tasks") or [told.get("task") or "*"])[0])


@dataclass
class Enforced:
    """The endpoints, and a role on them.

    Attributes:
        url: Their address.
        role: Credentials of the role, as environment variables.
        asked: Each action that somebody asked for, as IAM names it.
        subnet: Where tasks may be started, for who starts some.
        group: Their security group.
    """

    url: str
    role: Mapping[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    subnet: str = ""
    group: str = ""

    def client(self, service: str, credentials: Mapping[str, str] | None = None) -> Any:
        """A client with the role's credentials, or with others."""
        told = self.role if credentials is None else credentials
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=told["AWS_SESSION_TOKEN"],
        )

    def take_role(self, name: str, policy: str) -> None:
        """Have the role with a policy from now on, as a task has its own."""
        self._enforce(_FREE)
        iam, sts = self.client("iam", _ROOT), self.client("sts", _ROOT)
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):  # with another policy before
            iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        iam.put_role_policy(RoleName=name, PolicyName="run", PolicyDocument=policy)
        given = sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{name}", RoleSessionName="task")[
            "Credentials"
        ]
        self.role = {
            "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
            "AWS_SESSION_TOKEN": given["SessionToken"],
        }
        self._enforce(_ASKED)

    @contextlib.contextmanager
    def looking(self, service: str) -> Iterator[Any]:
        """A client for whoever looks at what came of it: nobody asks who may, until it is done."""
        self._enforce(_FREE)
        yield self.client(service, _ROOT)
        self._enforce(_ASKED)

    def _enforce(self, after: str) -> None:
        """Ask about every request, or about none."""
        requests.post(
            f"{self.url}/moto-api/reset-auth", data=after, headers={"Content-Type": "text/plain"}, timeout=10
        ).raise_for_status()

    def refused(self, action: Callable[[], Any]) -> bool:
        """Whether something is refused for want of a permission; that it comes to nothing otherwise is no
        refusal.
        """
        try:
            action()
        except ClientError as error:
            return error.response["Error"]["Code"] in _REFUSED
        return False


_ROOT = {"AWS_ACCESS_KEY_ID": "root", "AWS_SECRET_ACCESS_KEY": "root", "AWS_SESSION_TOKEN": "root"}


@contextlib.contextmanager
def enforced(buckets: tuple[str, ...], databases: tuple[str, ...]) -> Iterator[Enforced]:
    """Endpoints that hold some buckets and databases, and nobody's permissions yet."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    here = Enforced(f"http://{host}:{port}")
    check = IAMRequestBase.check_action_permitted
    check_object = S3Response._authenticate_and_authorize_s3_action

    def noted(self: Any, resource: str) -> None:
        here.asked.add(self._action)
        check(self, resource)

    def each(self: Any, bucket_name: str | None = None, key_name: str | None = None) -> None:
        deleted = re.findall(r"<Key>(.*?)</Key>", str(self.body)) if self.is_delete_keys() else []
        for key in deleted or [key_name]:
            check_object(self, bucket_name, key)

    try:
        S3Response._authenticate_and_authorize_s3_action = each  # type: ignore[method-assign]
        GlueResponse._determine_resource = _glue_resource
        EC2ContainerServiceResponse._determine_resource = _ecs_resource
        IAMRequestBase.check_action_permitted = noted  # type: ignore[method-assign]
        for name in buckets:
            here.client("s3", _ROOT).create_bucket(
                Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
        for name in databases:
            here.client("glue", _ROOT).create_database(DatabaseInput={"Name": name})
        yield here
    finally:
        here._enforce(_FREE)
        requests.post(f"{here.url}/moto-api/reset", timeout=10)
        del GlueResponse._determine_resource, EC2ContainerServiceResponse._determine_resource
        IAMRequestBase.check_action_permitted = check  # type: ignore[method-assign]
        S3Response._authenticate_and_authorize_s3_action = check_object  # type: ignore[method-assign]
        server.stop()


def settings_of(here: Enforced) -> dict[str, str]:
    """A process's environment with the role's credentials and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return (
        kept | here.role | {"AWS_ENDPOINT_URL": here.url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    )
