"""Rollups read by PostgreSQL, which adds the rows of a window up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import repeat
from typing import Any, ClassVar, Final

from django.db import connections

from flexmeter.aggregation import ZERO, Alike, Measure, Partial
from flexmeter.metering import NO_GROUP
from flexmeter.properties import dumps
from flexmeter.queries import Scope
from flexmeter.stores.database import native_levels
from flexmeter.stores.database.native_levels import spans_of_rollups
from flexmeter.stores.database.prepared import run_named
from flexmeter.stores.database.reading import UNGROUPED, Part, Ready, RollupReader, Wanted, by_rule, customers_of, edges_of
from flexmeter.stores.database.spans import spanning

_ADDED_UP: Final = {
    Measure.TOTAL: "sum(total)",
    Measure.MOMENT: "sum(moment)",
    Measure.MINIMUM: "min(minimum)",
    Measure.MAXIMUM: "max(maximum)",
}


def _added_up(needed: frozenset[Measure]) -> str:
    return ", ".join(f"{of if each in needed else 'NULL::numeric'} AS {each.value}" for each, of in _ADDED_UP.items())


def _listed(needed: frozenset[Measure]) -> str:
    return ", ".join(
        f"CASE WHEN count({each.value}) > 0 THEN array_agg({each.value}) END" if each in needed else "NULL::numeric[]"
        for each in _ADDED_UP
    )


class PostgresRollupReader(RollupReader):
    """The same contract, with the rows of a window added up by the database.

    All windows of all that is wanted are cut into the spans between any two of their beginnings and ends; a span lies in one
    window of each, or in none.
    """

    OF_SPAN: ClassVar[str] = """
        SELECT {span} AS span, sum(count)::bigint AS count, {added_up}
        FROM flexmeter_rollup
        WHERE series_id = s.id AND {within}
        GROUP BY 1
    """
    """What a stretch of a series holds, by span."""
    PARTS: ClassVar[str] = f"""
        {{parts}} AS stretch (meter_id, {native_levels.COLUMNS})
        JOIN flexmeter_series s ON s.environment = %(environment)s AND s.meter_id = stretch.meter_id
    """
    ANY_PARTS: ClassVar[str] = f"unnest(%(meters)s::text[], {native_levels.ARRAYS})"
    ONE_PART: ClassVar[str] = (
        "(%(meter_{0})s::text, " + ", ".join(f"%({column}_{{0}})s::{type}" for column, type in native_levels.TYPES.items()) + ")"
    )
    FEW_PARTS: ClassVar[int] = 4
    """So many are rows of their own: planned before they are known, a list is taken for longer, and the plan not kept."""
    KEYS: ClassVar[str] = """
        s.meter_id, s.generation, NULLIF(s."group", %(no_group)s::uuid) AS "group",
        CASE WHEN %(by_customer)s::boolean THEN s.external_customer_id END AS customer
    """
    OF_SERIES: ClassVar[str] = """
        SELECT {keys}, r.*, NULL::timestamptz
        FROM {parts}
        CROSS JOIN LATERAL (
            SELECT array_agg(span) AS spans, array_agg(count) AS counts, {listed} FROM ({of_span}) of_span
        ) r
        WHERE {who} AND r.spans IS NOT NULL
    """
    """A row for each part of each series."""
    ADDED_UP: ClassVar[str] = """
        SELECT meter_id, generation, "group", customer, array_agg(span), array_agg(count), {listed}, NULL::timestamptz
        FROM (
            SELECT {keys}, r.span, sum(r.count)::bigint AS count, {added_up}
            FROM {parts} CROSS JOIN LATERAL ({of_span}) r
            WHERE {who}
            GROUP BY 5, 2, 3, 4, 1
        ) of_series
        GROUP BY 1, 2, 3, 4
    """
    """A row for each meter, group and customer. The spans come first, which tell most rows apart at once when they are sorted."""
    READY: ClassVar[str] = """
        UNION ALL
        SELECT id, generation, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, counted_from
        FROM flexmeter_meter WHERE environment = %(environment)s AND id = ANY(%(meters)s::text[]) AND rollups_ready
    """
    """The meters whose rollups are complete as of the same snapshot."""
    COUNTED: ClassVar[str] = """
        SELECT meter_id, generation, spans, count(*)
        FROM (
            SELECT s.meter_id, s.generation, u.value, bit_or({one} << {span} - 1) AS spans
            FROM flexmeter_series s JOIN flexmeter_uniquevalue u ON u.series_id = s.id
            WHERE s.environment = %(environment)s AND s.meter_id = ANY(%(meters)s::text[])
              AND u.day >= %(start)s::timestamptz AND u.day < %(end)s::timestamptz
              AND {who}
            GROUP BY 1, 2, 3
        ) v
        GROUP BY 1, 2, 3
    """

    APART: ClassVar[str] = f"""
        SELECT {{keys}},
               CASE WHEN stretch.selected & 1 > 0 THEN s.dimension_1 END AS value_1,
               CASE WHEN stretch.selected & 2 > 0 THEN s.dimension_2 END AS value_2,
               CASE WHEN stretch.selected & 4 > 0 THEN s.dimension_3 END AS value_3,
               s.combination = %(no_group)s::uuid AS whole,
               r.span, sum(r.count)::bigint, sum(r.total), sum(r.moment), min(r.minimum), max(r.maximum)
        FROM unnest(%(meters)s::text[], {native_levels.ARRAYS}, %(selected)s::int[], %(wanted)s::jsonb[])
             AS stretch (meter_id, {native_levels.COLUMNS}, selected, wanted)
        JOIN flexmeter_series s ON s.environment = %(environment)s AND s.meter_id = stretch.meter_id
        CROSS JOIN LATERAL ({{of_span}}) r
        WHERE {{who}}
          AND (s.combination = %(no_group)s::uuid OR (
                  coalesce(stretch.wanted -> '0' ? s.dimension_1, true)
              AND coalesce(stretch.wanted -> '1' ? s.dimension_2, true)
              AND coalesce(stretch.wanted -> '2' ? s.dimension_3, true)))
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    """  # noqa: S608  # made of constants

    def read_measures(self, scope: Scope, wanted: Sequence[Wanted]) -> frozenset[Ready] | None:
        by_row, added_up, begins = self._sorted_out(wanted)
        ready = self._read_added_up(scope, added_up, begins) if added_up else None
        return super().read_measures(scope, by_row) if by_row else ready

    def read_apart(self, scope: Scope, wanted: Sequence[Wanted]) -> None:
        by_row, added_up, begins = self._sorted_out(wanted, without=frozenset({Measure.LATEST, Measure.UNIQUES}))
        if by_row:
            super().read_apart(scope, by_row)
        if added_up:
            self._read_apart(scope, added_up, begins)

    def _sorted_out(
        self, wanted: Sequence[Wanted], without: frozenset[Measure] = frozenset({Measure.LATEST})
    ) -> tuple[list[Wanted], list[Wanted], list[datetime]]:
        """What has to be read row by row, and what the database can add up, with where the spans of the latter begin and end."""
        by_row: list[Wanted] = []
        added_up: list[Wanted] = []
        for asked in wanted:
            by_itself = without & asked.measures or asked.windows(self.MOST_WINDOWS) is None
            (by_row if by_itself else added_up).append(asked)
        return by_row, added_up, edges_of(added_up, self.MOST_WINDOWS) or []

    def _read_apart(self, scope: Scope, wanted: Sequence[Wanted], begins: Sequence[datetime]) -> None:
        selections = {asked.rule.meter_id: asked.selection for asked in wanted if asked.selection}
        parts = self.parts(wanted)
        parameters = self._parameters(scope, wanted, begins, parts) | {
            "selected": [sum({1 << place for place in selections[part.meter_id].places}) for part in parts],
            "wanted": [dumps({place: sorted(of) for place, of in selections[part.meter_id].wanted.items()}) for part in parts],
        }
        of_span = self._of_span(begins, frozenset().union(*(asked.measures for asked in wanted)))
        statement = self.APART.format(keys=self.KEYS, of_span=of_span, who=_who(parameters))
        dealt = by_rule(wanted)
        with connections[self.alias].cursor() as cursor:
            run_named(self.alias, cursor, statement, parameters)
            for meter_id, generation, group, customer, *values, whole, span, count, total, moment, least, most in cursor:
                partial = Partial(count, total or ZERO, moment or ZERO, least, most)
                combination = (None,) if whole else tuple([value or "" for value in values])
                for asked in dealt.get((meter_id, generation), ()):
                    if customer is None or asked.customers is None or customer in asked.customers:
                        asked.merge(begins[span - 1], UNGROUPED if group is None else group.int, partial, combination)

    def read_uniques(self, scope: Scope, wanted: Sequence[Wanted]) -> None:
        can_be_counted = all(
            asked.counts_suffice and not asked.rule.group_by and asked.customers == wanted[0].customers for asked in wanted
        )
        begins = edges_of(wanted, self.MOST_WINDOWS) if can_be_counted else None
        if begins is None:
            super().read_uniques(scope, wanted)
        else:
            self._read_counted(scope, wanted, begins)

    def _read_counted(self, scope: Scope, wanted: Sequence[Wanted], begins: Sequence[datetime]) -> None:
        customers = customers_of(scope, wanted)
        places = spanning(tuple(begins))
        parameters: dict[str, Any] = places.parameters | {
            "environment": scope.environment,
            "meters": sorted({asked.rule.meter_id for asked in wanted}),
            "start": begins[0],
            "end": begins[-1],
            "customers": None if customers is None else sorted(customers),
        }
        filling = {
            rule: [[asked.cell(begin, UNGROUPED) for begin in begins[:-1]] for asked in of_rule]
            for rule, of_rule in by_rule(wanted).items()
        }
        # The spans a value occurred in, as bits: a number where they fit into one, otherwise a string of them.
        one = "1::bigint" if len(begins) < 64 else f"1::bit({len(begins)})"
        with connections[self.alias].cursor() as cursor:
            run_named(self.alias, cursor, self.COUNTED.format(one=one, span=places.of("u.day"), who=_who(parameters)), parameters)
            for meter_id, generation, spans, count in cursor.fetchall():
                alike = Alike(count)
                bits = spans if isinstance(spans, int) else int(spans, 2)
                for cells in filling.get((meter_id, generation), ()):
                    for place, cell in enumerate(cells):
                        if cell is not None and bits >> place & 1:
                            cell.uniques.add(alike)

    def _read_added_up(self, scope: Scope, wanted: Sequence[Wanted], begins: Sequence[datetime]) -> frozenset[Ready]:
        parameters = self._parameters(scope, wanted, begins, self.parts(wanted))
        dealt = by_rule(wanted)
        ready = set()
        with connections[self.alias].cursor() as cursor:
            run_named(self.alias, cursor, self._statement(wanted, begins, parameters), parameters)
            for meter_id, generation, group, customer, spans, counts, *measures, counted_from in cursor.fetchall():
                if spans is None:
                    ready.add(Ready(meter_id, generation, counted_from))
                    continue
                starts = [begins[span - 1] for span in spans]
                for asked in dealt.get((meter_id, generation), ()):
                    if customer is None or asked.customers is None or customer in asked.customers:
                        asked.take(starts, UNGROUPED if group is None else group.int, _partials(counts, *measures))
        return frozenset(ready)

    def _statement(self, wanted: Sequence[Wanted], begins: Sequence[datetime], parameters: Mapping[str, Any]) -> str:
        """Adds up over the series of a customer, where it may have several, and over customers."""
        needed = frozenset[Measure]().union(*(asked.measures for asked in wanted))
        by_customer = parameters["by_customer"] or len(parameters["customers"] or ()) == 1
        by_itself = by_customer and not any(asked.rule.dimensions for asked in wanted)
        rows = (self.OF_SERIES if by_itself else self.ADDED_UP).format(
            keys=self.KEYS,
            parts=self.PARTS.format(parts=self._parts(len(parameters["meters"]))),
            of_span=self._of_span(begins, needed),
            added_up=_added_up(needed),
            listed=_listed(needed),
            who=_who(parameters),
        )
        return rows + self.READY

    def _parts(self, parts: int) -> str:
        if parts > self.FEW_PARTS:
            return self.ANY_PARTS
        return f"(VALUES {', '.join(map(self.ONE_PART.format, range(parts)))})"

    def _of_span(self, begins: Sequence[datetime], needed: frozenset[Measure]) -> str:
        return self.OF_SPAN.format(
            span=spans_of_rollups(begins).expression, within=native_levels.within(begins), added_up=_added_up(needed)
        )

    def _parameters(
        self, scope: Scope, wanted: Sequence[Wanted], begins: Sequence[datetime], parts: Sequence[Part]
    ) -> dict[str, Any]:
        customers = customers_of(scope, wanted)
        parameters: dict[str, Any] = spans_of_rollups(begins).parameters | {
            "no_group": NO_GROUP,
            "by_customer": len({asked.customers for asked in wanted}) > 1,
            "environment": scope.environment,
            "meters": [part.meter_id for part in parts],
            **native_levels.columns_of(part.stretch for part in parts),
            "customers": None if customers is None else sorted(customers),
        }
        for place, (meter_id, stretch) in enumerate(parts[: self.FEW_PARTS]):
            values = {"meter": meter_id, **native_levels.values_of(stretch)}
            parameters |= {f"{name}_{place}": value for name, value in values.items()}
        return parameters


def _partials(
    counts: Sequence[int],
    totals: Sequence[Decimal | None] | None,
    moments: Sequence[Decimal | None] | None,
    minima: Sequence[Decimal | None] | None,
    maxima: Sequence[Decimal | None] | None,
) -> Iterator[Partial]:
    """Partials of what a measure, each a sequence of its own, is of each span; None: there is none."""
    return map(
        Partial,
        counts,
        repeat(ZERO) if totals is None else [total or ZERO for total in totals],
        repeat(ZERO) if moments is None else [moment or ZERO for moment in moments],
        repeat(None) if minima is None else minima,
        repeat(None) if maxima is None else maxima,
    )


def _who(parameters: Mapping[str, Any]) -> str:
    """The condition on customers: of one that may be NULL no plan that is kept could use an index, and of one on a list it
    could not tell that there is a single one.
    """
    if parameters["customers"] is None:
        return "true"
    if len(parameters["customers"]) == 1:
        return "s.external_customer_id = (%(customers)s::text[])[1]"
    return "s.external_customer_id = ANY(%(customers)s::text[])"


ROLLUP_READERS: dict[str, type[RollupReader]] = {"postgresql": PostgresRollupReader}


def rollup_reader(alias: str) -> RollupReader:
    """The rollup reader for the database behind `alias`."""
    return ROLLUP_READERS.get(connections[alias].vendor, RollupReader)(alias)
