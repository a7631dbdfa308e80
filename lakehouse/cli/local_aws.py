"""AWS on this machine: S3 and Glue endpoints for the demo, out of moto's server."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lakehouse.model.errors import UsageError
from lakehouse.storage.aws import aws_client


class LocalAwsMissingError(UsageError):
    """The package with the local endpoints is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "The local AWS endpoints come with the development packages: `make demo-aws` installs them."
        )


@contextmanager
def local_aws(bucket: str) -> Iterator[str]:
    """Run the endpoints, point AWS's variables of this process at them, make a bucket; yields the endpoint's
    address.

    Raises:
        LocalAwsMissingError: The package is not there.
    """
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        raise LocalAwsMissingError from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    named = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in named}
    os.environ.update(named)
    try:
        aws_client("s3").create_bucket(Bucket=bucket)
        yield named["AWS_ENDPOINT_URL"]
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        server.stop()
