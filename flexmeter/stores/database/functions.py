"""Aggregates over exact decimals inside a query, where the database keeps them as text.

PostgreSQL computes in `numeric`. SQLite is given functions that compute in Python's decimals. MariaDB and MySQL compute in
DECIMAL(65, 20): exact up to 45 digits before and 20 after the point.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

from flexmeter.aggregation import AggregationType, clamped
from flexmeter.properties import EXACT, plain

Sql = tuple[str, Any]

MYSQL_DECIMAL = "DECIMAL(65, 20)"
_NUMBER, _TEXT = "flexmeter_number(", "flexmeter_text("
_LARGEST_INTEGER = 2**63 - 1


class _Sum:
    """An exact SUM of decimals kept as text."""

    def __init__(self) -> None:
        self.value: Decimal | None = None

    def step(self, value: Any) -> None:
        if value is not None:
            number = Decimal(str(value))
            self.value = number if self.value is None else EXACT.add(self.value, number)

    def finalize(self) -> str | None:
        return None if self.value is None else str(self.value)


class _Maximum(_Sum):
    def step(self, value: Any) -> None:
        if value is not None and (self.value is None or Decimal(value) > self.value):
            self.value = Decimal(value)


class _Minimum(_Sum):
    def step(self, value: Any) -> None:
        if value is not None and (self.value is None or Decimal(value) < self.value):
            self.value = Decimal(value)


def _figure(value: Any, multiplier: str) -> Decimal:
    return clamped(EXACT.multiply(Decimal(str(value)), Decimal(multiplier)))


def _number(value: Any, multiplier: str) -> int | float | None:
    return None if value is None else _comparable(_figure(value, multiplier))


def _text(value: Any, multiplier: str) -> str | None:
    """Digits with their number in front, so that texts sort as their numbers do."""
    if value is None:
        return None
    digits = plain(_figure(value, multiplier))
    return f"{len(digits.partition('.')[0]):04d}:{digits}"


def _comparable(figure: Decimal) -> int | float:
    """The nearest number that SQLite has."""
    if figure == figure.to_integral_value() and figure.copy_abs() <= _LARGEST_INTEGER:
        return int(figure)
    return float(figure)


def add_functions(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Give a new SQLite connection the functions that stand in for exact arithmetic."""
    if connection.vendor == "sqlite":
        for name, aggregate in (("sum", _Sum), ("max", _Maximum), ("min", _Minimum)):
            connection.connection.create_aggregate(f"flexmeter_{name}", 1, aggregate)
        connection.connection.create_function("flexmeter_number", 2, _number, deterministic=True)
        connection.connection.create_function("flexmeter_text", 2, _text, deterministic=True)


if TYPE_CHECKING:  # generic only in the stubs
    DecimalColumn = models.DecimalField[Any, Any]
else:
    DecimalColumn = models.DecimalField


class FigureField(DecimalColumn):
    """What a figure is in a query. Selected, it is exact; compared, it is what the database has of a decimal.

    SQLite compares whole numbers up to 2^63 exactly, others as doubles, which tell 15 digits apart.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return {"postgresql": "numeric", "mysql": MYSQL_DECIMAL}.get(connection.vendor, "real")

    def get_internal_type(self) -> str:
        return "FigureField"  # or SQLite's own conversion of decimals would round

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Decimal | None:
        if value is None:
            return None
        return Decimal(plain(Decimal(value.partition(":")[2] if isinstance(value, str) else str(value))))

    def get_prep_value(self, value: Any) -> Any:
        return Decimal(str(value)) if isinstance(value, (int, float, str)) else value

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        value = value if prepared else self.get_prep_value(value)
        return _comparable(value) if isinstance(value, Decimal) and connection.vendor == "sqlite" else value

    def select_format(self, compiler: SQLCompiler, sql: str, params: Any) -> Sql:
        return sql.replace(_NUMBER, _TEXT, 1) if sql.startswith(_NUMBER) else sql, params


class ExactAggregate(models.Aggregate):
    """SUM, MAX or MIN of an ExactDecimalField, exact within the database's bounds."""

    output_field = FigureField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        return self.as_sql(compiler, connection, function=f"flexmeter_{str(self.function).lower()}", **context)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        template = f"%(function)s(CAST(%(expressions)s AS {MYSQL_DECIMAL}))"
        return self.as_sql(compiler, connection, template=template, **context)


class ExactSum(ExactAggregate):
    function = "SUM"


class ExactMax(ExactAggregate):
    function = "MAX"


class ExactMin(ExactAggregate):
    function = "MIN"


FIGURES: dict[AggregationType, models.Aggregate] = {
    AggregationType.COUNT: models.Sum("count"),
    AggregationType.SUM: ExactSum("total"),
    AggregationType.SUM_WITH_MULTIPLIER: ExactSum("total"),
    AggregationType.MAX: ExactMax("maximum"),
    AggregationType.MIN: ExactMin("minimum"),
    AggregationType.COUNT_UNIQUE: models.Count("value", distinct=True),
}
"""How the figure of these types, without buckets and multiplier, comes from columns of Rollup or UniqueValue."""


class Reported(models.Func):
    """What is reported of an aggregate: times `multiplier`, never negative. SQLite leaves it to Figure."""

    output_field = FigureField()
    template = "GREATEST(%(expressions)s * %(multiplier)s, 0)"

    def __init__(self, aggregate: Any, multiplier: Decimal) -> None:
        # Written out, for it is our own number, and a parameter would be taken for a double or for text.
        super().__init__(aggregate, multiplier=plain(multiplier))

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        return self.as_sql(compiler, connection, template="%(expressions)s", **context)


class Figure(models.Func):
    """A Reported figure where it is used: a number the database can compare."""

    output_field = FigureField()
    template = "%(expressions)s"

    def __init__(self, reported: Any, multiplier: Decimal) -> None:
        super().__init__(reported, multiplier=plain(multiplier))

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        return self.as_sql(compiler, connection, template=f"{_NUMBER}%(expressions)s, '%(multiplier)s')", **context)


class CustomerText(models.Func):
    """A column of the host's as the external customer id that `record` makes of it."""

    output_field = models.CharField()
    template = "CAST(%(expressions)s AS TEXT)"

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        return self._of_hex(compiler, connection, context) or super().as_sql(compiler, connection, **context)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Sql:
        sql, params = super().as_sql(compiler, connection, **context)
        return f'({sql}) COLLATE "C"', params

    def as_mysql(self, compiler: SQLCompiler, connection: Any, **context: Any) -> Sql:
        found = self._of_hex(compiler, connection, context)
        sql, params = found or super().as_sql(compiler, connection, template="CAST(%(expressions)s AS CHAR)", **context)
        collation = "utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"
        return f"CONVERT({sql} USING utf8mb4) COLLATE {collation}", params

    def _of_hex(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, context: Any) -> Sql | None:
        """With its hyphens, a UUID that the database keeps as 32 hexadecimal digits."""
        source = self.get_source_expressions()[0]
        if not isinstance(source.output_field, models.UUIDField) or connection.features.has_native_uuid_field:
            return None
        parts = [f"SUBSTR(%(expressions)s, {start}, {length})" for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))]
        hyphened = " || '-' || ".join(parts) if connection.vendor == "sqlite" else f"CONCAT_WS('-', {', '.join(parts)})"
        sql, params = super().as_sql(compiler, connection, **context | {"template": f"({hyphened})"})
        return sql, tuple(params) * len(parts)
