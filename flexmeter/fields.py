"""Model fields that mean the same on every database: identifiers, exact decimals, JSON kept as sent."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

from flexmeter import properties

if TYPE_CHECKING:  # generic only in the stubs
    TextColumn = models.CharField[Any, Any]
    DecimalColumn = models.Field[Any, Any]
    JsonColumn = models.Field[Any, Any]
else:
    TextColumn = models.CharField
    DecimalColumn = JsonColumn = models.Field


class IdentifierField(TextColumn):
    """Text compared and sorted byte for byte: case, accents, and trailing spaces all count.

    Sorts by code point on SQLite, PostgreSQL, MariaDB and MySQL alike, which is also how Python sorts.
    """

    COLLATIONS = {"postgresql": "C", "mariadb": "utf8mb4_nopad_bin", "mysql": "utf8mb4_0900_bin"}

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters: dict[str, Any] = super().db_parameters(connection)
        vendor = connection.vendor
        if vendor == "mysql" and getattr(connection, "mysql_is_mariadb", False):
            vendor = "mariadb"
        parameters["collation"] = self.COLLATIONS.get(vendor)
        return parameters


class ExactDecimalField(DecimalColumn):
    """A decimal of any size and scale, given back digit for digit.

    `numeric` on PostgreSQL; text elsewhere, because SQLite keeps 15 digits and MariaDB 65. It supports no ordering or
    arithmetic in those databases: merge in Python.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return {"postgresql": "numeric", "mysql": "longtext"}.get(connection.vendor, "text")

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Decimal | None:
        return None if value is None else Decimal(value)

    def to_python(self, value: Any) -> Decimal | None:
        return None if value is None else Decimal(value)

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return None if value is None else Decimal(value)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        return value if value is None or connection.vendor == "postgresql" else str(value)


class JsonTextField(JsonColumn):
    """JSON as text: the same compact text on every database, so numbers and key order stay as they were sent.

    Column type `json` on PostgreSQL, text elsewhere. NULL stands for "none given".
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return {"postgresql": "json", "mysql": "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"}.get(
            connection.vendor, "text"
        )

    def select_format(self, compiler: SQLCompiler, sql: str, params: Any) -> tuple[str, Any]:
        """Ask PostgreSQL for the text, or its driver would decode numbers inexactly."""
        return (f"({sql})::text" if compiler.connection.vendor == "postgresql" else sql), params

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        return None if value is None else properties.loads(value)

    def to_python(self, value: Any) -> Any:
        return properties.loads(value) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return None if value is None else properties.dumps(value)

    def value_to_string(self, obj: models.Model) -> str:
        value = self.value_from_object(obj)
        return "" if value is None else properties.dumps(value)
