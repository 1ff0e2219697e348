"""The tests' settings for a project in which flexmeter stands alone."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "flexmeter.pricing"]
