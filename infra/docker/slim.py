"""Leave in an environment what the services of a deployment use: run once, while the image is built.

Usage: slim.py SITE_PACKAGES

Packages come without compiled modules. What is imported here is compiled here, so that a container, which may
write nothing, starts as fast as a checkout; what no service imports is not. What is removed has a rule that
says why, and a rule that finds nothing fails: it is about a release that is no longer installed.
"""

import importlib
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

REMOVED = {
    "ccxt/async_support": "a second copy of every exchange; ours are asked by the first",
    "ccxt/pro": "streams",
    "ccxt/test": "tests",
    "dagster_webserver/**/*.map": "maps from scripts to their sources, for who works on the UI",
    "dagster_webserver/**/*.mp4": "a film that is shown when nothing is set up",
    "pyarrow/*_flight*": "a protocol between databases, with a gRPC of its own",
    "pyarrow/*_s3*": "another client of S3; ours is obstore",
    "pyarrow/*.p[xy][xid]": "sources of compiled modules",
    "pyarrow/include": "headers",
    "pyarrow/src": "sources of compiled modules",
    "pyarrow/tests": "tests",
    "setuptools": "it builds packages; ccxt asks for it and imports it nowhere",
    "setuptools-*.dist-info": "as setuptools",
    "_distutils_hack": "a part of setuptools",
    "distutils-precedence.pth": "a part of setuptools",
    "pyarrow/libarrow_python*.so": "a library under a second name",
    "pyarrow/libarrow_python*.so.*.*.*": "a library under a third name",
}
AWS = ("cloudwatch", "ec2", "ecs", "glue", "logs", "s3", "secretsmanager", "sns", "sso", "sso-oidc", "sts")
"""Services of AWS that we, Dagster's launcher and its logs ask, or that give credentials; botocore knows 450."""
STRIPPED = (
    "_polars_runtime_32/*.so",
    "polars_talib/*.so",
    "pyarrow/libarrow*.so.*",
    "pyarrow/libparquet.so.*",
    "sqlalchemy/**/*_cy.*.so",
    "aiohttp/**/*.so",
    "uvloop/loop.*.so",
)
"""Libraries that carry the names of their functions for debuggers: those where that is a megabyte and more."""
IMPORTED = (
    "ccxt",
    "dagster._cli.api",
    "dagster._cli.instance",
    "dagster._daemon.cli",
    "dagster._grpc.server",
    "dagster_aws.ecs",
    "dagster_aws.s3.compute_log_manager",
    "dagster_postgres",
    "dagster_webserver.app",
    "uvicorn",
)


def remove(site: Path) -> int:
    """Remove what no service uses; how many bytes that was.

    Raises:
        SystemExit: A rule finds nothing.
    """
    freed = 0
    for pattern, why in REMOVED.items():
        if not any(site.glob(pattern)):
            raise SystemExit(
                f"Nothing is {pattern} ({why}): mend or drop this rule of {Path(__file__).name}."
            )
    for pattern in REMOVED:
        for path in [*site.glob(pattern)]:
            size = sum(one.lstat().st_size for one in (path, *path.rglob("*")) if not one.is_dir())
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            freed += size
    for service in [path for path in (site / "botocore" / "data").iterdir() if path.is_dir()]:
        if service.name not in AWS:
            freed += sum(one.stat().st_size for one in service.rglob("*") if one.is_file())
            shutil.rmtree(service)
    return freed


def strip(site: Path) -> int:
    """Take the names of functions out of libraries that carry them; how many bytes that was.

    Raises:
        SystemExit: There is no `strip`, which Debian's package binutils has.
    """
    tool = shutil.which("strip")
    if tool is None:
        raise SystemExit("There is no `strip` here: install Debian's package binutils in this stage.")
    freed = 0
    for pattern in STRIPPED:
        for path in site.glob(pattern):
            before = path.stat().st_size
            subprocess.run([tool, "--strip-unneeded", str(path)], check=True)
            freed += before - path.stat().st_size
    return freed


def compile_imported() -> int:
    """Import what services import, which writes what was compiled; how many modules that were."""
    sys.dont_write_bytecode = False
    for name in IMPORTED:
        importlib.import_module(name)
    import lakehouse

    for module in pkgutil.walk_packages(lakehouse.__path__, "lakehouse."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return len(sys.modules)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(f"removed {remove(place) / 1e6:.0f} MB, stripped {strip(place) / 1e6:.0f} MB")
    print(f"compiled {compile_imported()} modules")
