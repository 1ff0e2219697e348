"""How many examples a property test tries."""

from __future__ import annotations

import os

from django.db import connection
from hypothesis import settings

SHARE = {"sqlite": 0.4, "postgresql": 0.4, "mysql": 0.2}
"""Of what is written at a test, so that a run of all three ends in a quarter of an hour. What MariaDB runs is, but for the
server, what SQLite runs."""


def examples(number: int) -> settings:
    """A share of `number` examples; EXAMPLES=10 in the environment makes it ten times as many."""
    return settings(max_examples=round(number * SHARE[connection.vendor] * int(os.environ.get("EXAMPLES", "1"))))
