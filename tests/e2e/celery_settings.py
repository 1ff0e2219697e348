"""The tests' settings with a beat that sweeps every second, so that a test need not wait for one."""

from flexmeter.schedule import BEAT_SCHEDULE

from tests.settings import *  # noqa: F403

SWEEP = BEAT_SCHEDULE["flexmeter-sweep"]
CELERY_BEAT_SCHEDULE = {"flexmeter-sweep": {**SWEEP, "schedule": 1.0, "options": {"expires": 1.0}}}
