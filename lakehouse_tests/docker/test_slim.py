"""What `infra/docker/slim.py` leaves out of the image is there to be left out, and not needed."""

import importlib.util
import re
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

from lakehouse_tests.clone import ROOT
from lakehouse_tests.docker.composed import FOLDER

SITE = Path(sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def slim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slim", FOLDER / "slim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_rule_finds_something_in_the_packages_that_are_pinned(slim: ModuleType) -> None:
    assert [pattern for pattern in (*slim.REMOVED, *slim.STRIPPED) if not any(SITE.glob(pattern))] == []
    places = {name: SITE / name.replace(".", "/") for name in slim.IMPORTED}
    assert [name for name, at in places.items() if not (at.is_dir() or at.with_suffix(".py").exists())] == []


def test_every_service_of_aws_that_is_asked_stays_in_the_image(slim: ModuleType) -> None:
    """Named in our code, in Dagster's launcher and in its logs; sts and sso give credentials."""
    asking = [ROOT / "lakehouse", *(SITE / "dagster_aws" / part for part in ("ecs", "s3"))]
    text = "\n".join(path.read_text("utf-8") for folder in asking for path in folder.rglob("*.py"))
    named = set(re.findall(r"""(?:client|resource)\(\s*["']([a-z0-9-]+)["']""", text))
    assert {"s3", "glue", "ecs", "logs"} <= named
    assert named <= set(slim.AWS)
    assert all((SITE / "botocore" / "data" / service).is_dir() for service in slim.AWS)


def test_a_rule_that_finds_nothing_fails_before_anything_is_removed(slim: ModuleType, tmp_path: Path) -> None:
    kept = tmp_path / "ccxt" / "async_support" / "binance.py"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(SystemExit, match=r"Nothing is ccxt/pro \(streams\): mend or drop this rule"):
        slim.remove(tmp_path)
    assert kept.exists()
