"""A small project with flexmeter in it. The environment sets DATABASE_URL, CELERY_BROKER_URL, FLEXMETER_INGEST, PORT,
SECRET_KEY, DEBUG and ALLOWED_HOSTS; without any it runs on this machine alone, on SQLite.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import dj_database_url

import flexmeter
from flexmeter.schedule import BEAT_SCHEDULE

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SECRET_KEY", "django-insecure-known-to-everybody-fit-for-the-example-only")
DEBUG = os.environ.get("DEBUG", "0") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
PORT = int(os.environ.get("PORT", "8000"))

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "flexmeter",
    "flexmeter.pricing",
    "demo",
]
# The description of the API and the page that shows it; the page's files come with the sidecar, from no other host.
INSTALLED_APPS += filter(find_spec, ["drf_spectacular", "drf_spectacular_sidecar"])

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "flexmeter.http.middleware.IngestionMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "flexmeter.middleware.MeterMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# What each database needs to serve many writers.
DATABASE_OPTIONS = {
    "django.db.backends.sqlite3": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 8,
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
    },
    "django.db.backends.postgresql": {"connect_timeout": 5},
    "django.db.backends.mysql": {"connect_timeout": 5},
}

DATABASES = {
    "default": dj_database_url.parse(
        os.environ.get("DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}"),
        conn_max_age=60,
        conn_health_checks=True,
    )
}
DATABASES["default"]["OPTIONS"] = DATABASE_OPTIONS[DATABASES["default"]["ENGINE"]] | DATABASES["default"].get("OPTIONS", {})

if DATABASES["default"]["ENGINE"] == "django.db.backends.mysql" and not find_spec("MySQLdb"):
    import pymysql  # needs no compiler

    pymysql.install_as_MySQLdb()

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"

FLEXMETER_INGEST = os.environ.get("FLEXMETER_INGEST", "inline")
CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker comes back however long the broker was away
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 10, "socket_connect_timeout": 5, "health_check_interval": 10}
CELERY_BEAT_SCHEDULE = BEAT_SCHEDULE
CELERY_IMPORTS = ["shop.tasks"]

# What the middleware meters. Functions are named by their path, for settings cannot import an app's code.
FLEXMETER_METERED_URLS = [
    {"path": r"^/shop/files/", "event_name": "download", "customer": "shop.customers.customer_of", "measure": ["response_bytes"]},
]

REST_FRAMEWORK = {}
if find_spec("drf_spectacular"):
    REST_FRAMEWORK["DEFAULT_SCHEMA_CLASS"] = "drf_spectacular.openapi.AutoSchema"

SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "flexmeter",
    "VERSION": flexmeter.__version__,
    "DESCRIPTION": """Usage metering: events in, usage out.

Make a key with `python example_project/manage.py flexmeter_apikey create NAME` and send it as `x-api-key`. It sees one
environment and nothing of any other. To try a call here, give the key to *Authorize*.

Bodies are read as JSON whatever their content type says; null is the same as left out, and unknown members are ignored.
Times are RFC 3339 with an offset, ranges run from `start_time` up to but not including `end_time` unless an operation says
otherwise, and figures are exact decimals. Every answer has an `X-Request-ID`: that of the request, or a new one.""",
    "TAGS": [
        {"name": "Events", "description": "Send events, list them, and see what became of one."},
        {"name": "Usage", "description": "Ask what was used."},
        {"name": "Meters", "description": "Say what counts as usage."},
        {"name": "Customers", "description": "Say who is charged."},
        {"name": "Features", "description": "Say what usage is called."},
        {"name": "Plans", "description": "Put prices together for customers to subscribe to."},
        {"name": "Prices", "description": "Say what usage costs."},
        {"name": "Subscriptions", "description": "Have prices apply to customers."},
        {"name": "Coupons", "description": "Take something off."},
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "SORT_OPERATIONS": False,  # in the order of the routes
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {
        "deepLinking": True,
        "persistAuthorization": True,
        "displayRequestDuration": True,
        "defaultModelsExpandDepth": 0,
        "validatorUrl": None,  # no other host is asked
    },
}
