"""The tests' settings with a shop that meters its orders."""

from tests.e2e.celery_settings import *  # noqa: F403
from tests.e2e.celery_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.crash.shop"]
ROOT_URLCONF = "tests.crash.shop.urls"
