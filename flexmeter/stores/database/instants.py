"""Instants as databases give them to statements that are written out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from django.db import connections
from django.db.models import DateTimeField
from django.db.models.expressions import Col


def as_instant(stored: Any, alias: str) -> datetime:
    """What a model's field makes of a timestamp as the database gives it."""
    connection, column = connections[alias], Col("", DateTimeField())
    for convert in column.get_db_converters(connection) + connection.ops.get_db_converters(column):
        stored = convert(stored, column, connection)
    return cast(datetime, stored)
