from importlib.util import find_spec

if find_spec("celery"):
    from config.celery import app as celery_app  # what flexmeter's tasks are sent with

    __all__ = ["celery_app"]
