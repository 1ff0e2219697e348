from pytest_django.fixtures import db

__all__ = ["db"]
