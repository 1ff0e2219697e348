"""The example project with the peer in it: one server answers for both."""

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.peer"]
ROOT_URLCONF = "benchmarks.peer.urls"
