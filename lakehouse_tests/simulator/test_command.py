"""`lakehouse simulate`."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from lakehouse.cli.app import main
from lakehouse.simulator import FAULTS


def test_faults_are_listed_with_what_they_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lakehouse", "simulate", "--fault", "list"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    out = capsys.readouterr().out
    assert [name for name in FAULTS if name not in out] == []


@pytest.mark.slow
def test_its_clock_runs_as_fast_as_asked(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "lakehouse"), "simulate", "--port", "0", "--speed", "86400"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert url is not None
        times = []
        for pause in (1, 0):
            times.append(json.loads(urlopen(f"{url[0]}/api/v3/time", timeout=10).read())["serverTime"])
            time.sleep(pause)
        process.terminate()
    assert times[1] - times[0] >= 86_400_000
    assert process.returncode == 0
