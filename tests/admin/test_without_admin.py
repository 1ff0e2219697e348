import subprocess
import sys

PROJECT = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "flexmeter"], USE_TZ=True, SECRET_KEY="x",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
)
django.setup()
from django.template import engines
print(engines["django"].from_string("{% load flexmeter %}it works").render())
"""


def test_templates_of_a_project_without_an_admin_work():
    done = subprocess.run([sys.executable, "-c", PROJECT], capture_output=True, text=True, timeout=480, check=False)
    assert (done.stdout.strip(), done.stderr) == ("it works", "")
