"""The example project's settings, made quick and quiet for tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "example_project"))

from config.settings import *  # noqa: F403
from config.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE

if "flexmeter.pricing" not in INSTALLED_APPS:
    INSTALLED_APPS += ["flexmeter.pricing"]
INSTALLED_APPS += ["tests.databases"]  # for its command alone, which empties the database between tests

DATABASE = DATABASES["default"]
DATABASE["CONN_MAX_AGE"] = 0
# A busy machine is no reason to fail.
DATABASE["OPTIONS"] |= {name: 60 for name in ("timeout", "connect_timeout") if name in DATABASE["OPTIONS"]}
if DATABASE["ENGINE"] == "django.db.backends.sqlite3":
    # A file, because the processes and threads of a test share it. It need not survive a power cut.
    DATABASE["TEST"] = {"NAME": str(Path(DATABASE["NAME"]).with_name("test.sqlite3"))}
    DATABASE["OPTIONS"]["init_command"] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF"

# Every page of the admin is tested under a strict policy.
MIDDLEWARE = ["tests.browser.policy.ContentSecurityPolicy", *MIDDLEWARE]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
FLEXMETER_KEY_REMEMBERED_SECONDS = 3_600  # however slow the machine, a test that counts queries finds the key remembered
