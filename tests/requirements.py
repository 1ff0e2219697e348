"""What a test needs of the machine, and what happens when it is not there.

`@requires("gunicorn")` skips a test and names what is missing; with REQUIRE_SERVERS=1 in the environment, as in continuous
integration, it fails instead. `import_required("flexprice")` does the same for a module at the top of a test file.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from tests.databases import SERVERS

# Programs go by several names; every other requirement is the name of a Python module.
PROGRAMS: Mapping[str, Sequence[str]] = {
    "chromium": ["chromium", "chromium-browser", "google-chrome"],
    "chromedriver": ["chromedriver"],
    "redis-server": ["redis-server"],
}


def requires(*names: str) -> pytest.MarkDecorator:
    """Mark a test as needing every one of `names`: a server ("postgresql", "mariadb"), a program, or a module."""
    return pytest.mark.requires(*names)


def only_on(*databases: str) -> pytest.MarkDecorator:
    """Mark a test as one about these databases: "sqlite", "postgresql", "mariadb"."""
    return pytest.mark.only_on(*databases)


def missing(name: str) -> str | None:
    """Why `name` cannot be used here, or None."""
    if name in SERVERS:
        return SERVERS[name].missing()
    if name in PROGRAMS:
        return None if any(map(shutil.which, PROGRAMS[name])) else f"{' or '.join(PROGRAMS[name])} is not installed"
    return None if find_spec(name) else f"the Python module {name} is not installed"


def skip_or_fail(reason: str, *, allow_module_level: bool = False) -> None:
    """Skip the current test, or fail it where everything has to be there."""
    if servers_are_required():
        pytest.fail(f"{reason}, and REQUIRE_SERVERS is set", pytrace=False)
    pytest.skip(reason, allow_module_level=allow_module_level)


def import_required(module: str) -> Any:
    if reason := missing(module):
        skip_or_fail(reason, allow_module_level=True)
    return import_module(module)


def servers_are_required() -> bool:
    return os.environ.get("REQUIRE_SERVERS", "") not in {"", "0"}
