"""When Celery's beat runs what flexmeter needs run: `CELERY_BEAT_SCHEDULE = {**BEAT_SCHEDULE, …}` in the settings.

Nothing of Celery is imported here, so a settings module may import it. Pruning is not in it: what is kept how long is
for you to say (docs/celery.md).
"""

from __future__ import annotations

from typing import Any, Final

SWEEP: Final = "flexmeter.sweep"
VERIFY: Final = "flexmeter.verify"

BEAT_SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    "flexmeter-sweep": {"task": SWEEP, "schedule": 15.0, "options": {"expires": 15.0}},
    "flexmeter-rebuild": {"task": "flexmeter.rebuild", "schedule": 60.0, "options": {"expires": 60.0}},
    "flexmeter-compact": {"task": "flexmeter.compact", "schedule": 900.0, "options": {"expires": 900.0}},
    "flexmeter-verify": {"task": VERIFY, "schedule": 86_400.0, "options": {"expires": 86_400.0}},
}
"""Seconds between runs by task; a call that nobody took before the next one expires."""
