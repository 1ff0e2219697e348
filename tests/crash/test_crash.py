"""A few kills of the many that `make test-crash` makes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import only_on

KILLS = 15


@only_on("sqlite", "postgresql", "mariadb")
@pytest.mark.requires("gunicorn")
def test_orders_and_events_agree_after_processes_were_killed_at_random(pytestconfig):
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "PYTEST_XDIST_WORKER"}}
    run = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--database", pytestconfig.option.database, "--kills", str(KILLS)],
        cwd=Path(__file__).resolve().parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout)
    assert sum(figures["kills"].values()) == KILLS
    assert figures["orders"] > 0
    assert figures["events"] >= figures["orders"]
