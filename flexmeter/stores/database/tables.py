"""Tables that are written by statements of their own, not by the ORM: their columns, and what PostgreSQL calls their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Table(NamedTuple):
    """A table, or some of its columns, in the order in which rows have them."""

    name: str
    types: Mapping[str, str]

    def of(self, *columns: str) -> Table:
        """The same with these columns only."""
        return Table(self.name, {column: self.types[column] for column in columns})

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.types)

    @property
    def copy(self) -> str:
        """The statement that takes lines of rows (PostgreSQL)."""
        return f"COPY {self._named} FROM STDIN"

    @property
    def insert(self) -> str:
        """An insertion's first words, before the rows."""
        return f"INSERT INTO {self._named}"

    def insert_from(self, source: str) -> str:
        """The statement that takes the rows of a FROM clause, where they are called "row"."""
        return f"{self.insert} SELECT row.* FROM {source}"  # noqa: S608  # made of constants

    @property
    def insert_arrays(self) -> str:
        """The statement that takes rows whose columns are given as arrays, each a parameter (PostgreSQL)."""
        return self.insert_from(f"{self.arrays} AS row")

    @property
    def values(self) -> str:
        """One row, its values as parameters."""
        return f"VALUES ({', '.join(['%s'] * len(self.types))})"

    def typed_values(self, number: int) -> str:
        """A list of so many rows, all their values as parameters (PostgreSQL)."""
        row = ", ".join(f"%s::{type}" for type in self.types.values())
        return f"(VALUES {', '.join([f'({row})'] * number)})"

    @property
    def arrays(self) -> str:
        """Rows whose columns are given as arrays, each a parameter (PostgreSQL)."""
        return f"unnest({', '.join(f'%s::{type}[]' for type in self.types.values())})"

    @property
    def _named(self) -> str:
        return f"{self.name} ({', '.join(self.types)})"


def _each(type: str, *columns: str) -> dict[str, str]:
    return dict.fromkeys(columns, type)


MEASURE_COLUMNS: Final = (
    "count", "total", "moment", "minimum", "maximum", "latest", "latest_at", "latest_accepted_at", "latest_event_id",
)  # fmt: skip
DIMENSION_COLUMNS: Final = ("dimension_1", "dimension_2", "dimension_3")

GIVEN: Final = Table(
    "flexmeter_event",
    {
        **_each("text", "event_id", "event_name", "external_customer_id", "customer_id", "source"),
        **_each("timestamptz", "timestamp", "accepted_at"),
        "properties": "json",
        "sender": "text",
    },
)
"""What an event was sent with, and by whom."""
EVENTS: Final = Table(
    GIVEN.name, {"environment": "text", "ingested_at": "timestamptz", **GIVEN.types, "repeated_at": "timestamptz"}
)
ROLLUPS: Final = Table(
    "flexmeter_rollup",
    {
        "part": "bigint",
        "series_id": "integer",
        "slot": "integer",
        **dict(zip(MEASURE_COLUMNS, ("bigint", *["numeric"] * 5, *["timestamptz"] * 2, "text"), strict=True)),
    },
)
SUMS: Final = ROLLUPS.of("part", "series_id", "slot", "count", "total")
"""The columns of rows that keep nothing else: most of a row's time is that of its columns and its place in the index."""
UNIQUE_VALUES: Final = Table(
    "flexmeter_uniquevalue", {"part": "bigint", "series_id": "integer", "day": "timestamptz", "value": "uuid"}
)
