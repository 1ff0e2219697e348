"""What the package declares about itself, held against the files that repeat it."""

import configparser
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_oldest_environment_runs_with_exactly_the_lower_bounds():
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    pins = tox["testenv:oldest"]["deps"].split()
    assert [pin.replace("==", ">=") for pin in pins] == PYPROJECT["project"]["dependencies"]
