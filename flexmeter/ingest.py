"""Events into the ledger and into every rollup they touch, or neither."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from flexmeter.events import UsageEvent, format_timestamp
from flexmeter.exceptions import InvalidEvent
from flexmeter.metering import DAY, Folded, MeterRule, fold, fold_alike, rollups_of
from flexmeter.models import DEFAULT_ENVIRONMENT
from flexmeter.models import now as current_instant
from flexmeter.stores.database.few import few_writer
from flexmeter.stores.database.native_rollups import rollup_writer
from flexmeter.stores.database.native_writers import writer
from flexmeter.stores.database.rollup_rows import Lines
from flexmeter.stores.database.rollups import RollupWriter
from flexmeter.stores.database.rules import rules_for, terms_and_rules
from flexmeter.stores.database.series import RememberedSeries
from flexmeter.stores.database.together import together
from flexmeter.stores.database.transactions import in_callers_transaction, in_transaction, write_alias
from flexmeter.stores.database.writers import Written
from flexmeter.windows import bucket, next_bucket

CUSTOMERS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a batch: `stored` for the first time, `replaced` by later values, `repeated` without effect,
    `rejected` because stored values stand (see FLEXMETER_REPEATED_EVENT)."""

    stored: int = 0
    replaced: int = 0
    repeated: int = 0
    rejected: int = 0

    def __add__(self, other: Ingested) -> Ingested:
        return Ingested(
            self.stored + other.stored,
            self.replaced + other.replaced,
            self.repeated + other.repeated,
            self.rejected + other.rejected,
        )


def ingest(
    events: Sequence[UsageEvent],
    *,
    environment: str = DEFAULT_ENVIRONMENT,
    using: str | None = None,
    beside: Iterator[object] | None = None,
    shared: bool = False,
) -> Ingested:
    """Store `events` and count them in every meter of the environment, in one transaction.

    Safe to call again, in any order: an event replaces a stored one only if it was accepted later, so a batch whose
    outcome is unknown can simply be sent again. Inside a caller's transaction it commits and rolls back with it.
    Steps of `beside` may be taken while the database is at work; they should do without it and raise nothing. With `shared`
    a few events may be stored by another thread, in one transaction with its own: for who has given its connection no state.

    Raises InvalidEvent for an event older than the environment's retention floor, and EnvironmentBusy when other
    writers kept getting in the way; either way nothing was stored.
    """
    if not events:
        return Ingested()
    alias = using or write_alias()
    alone = not in_callers_transaction(alias)
    few = few_writer(alias)
    if alone and (together.write(few, environment, events) if shared else few.write(environment, events, current_instant())):
        return Ingested(stored=len(events))

    def write_and_count() -> Ingested:
        names = {event.event_name for event in events}
        terms, rules = terms_and_rules(environment, names, alias, remembering=alone)
        floor, since = terms
        _refuse_pruned(events, floor)
        if alone:
            few.learn(environment, terms)
        rollups = rollup_writer(alias, RememberedSeries(alias, environment, since))
        ahead = _Ahead(rules, rollups)
        written = writer(alias).write(
            environment, events, now=current_instant(), floor=floor, meanwhile=ahead.fold, beside=beside, alone=alone
        )
        if written.replaced:
            _count(environment, written, rules, rollups)
        else:
            ahead.append(environment, written.new)
        return Ingested(len(written.new), len(written.replaced), written.repeated, written.rejected)

    return in_transaction(alias, write_and_count)


class _Ahead:
    """Counts events while the database stores them, in the hope that all of them are new."""

    def __init__(self, rules: Sequence[MeterRule], rollups: RollupWriter) -> None:
        self._rules, self._rollups = rules, rollups
        self._folded = 0
        self._lines = Lines()
        self._left: Sequence[Folded] = ()

    def fold(self, events: Sequence[UsageEvent]) -> None:
        self._lines, self._left = self._rollups.lines_of(list(fold_alike(events, self._rules)))
        self._folded = len(events)

    def append(self, environment: str, new: Sequence[UsageEvent]) -> None:
        """Append what turned out to be new, which is all that was folded or less."""
        left: Iterable[Folded] = self._left
        if self._folded == len(new):
            self._rollups.append_lines(self._lines)
        else:
            left = fold_alike(new, self._rules)
        self._rollups.append(environment, rollups_of(left), self._rules)


def _refuse_pruned(events: Sequence[UsageEvent], floor: datetime | None) -> None:
    if floor is None:
        return
    for index, event in enumerate(events):
        if event.timestamp < floor:
            reason = f"lies before {format_timestamp(floor)}, the start of what is retained here"
            error = InvalidEvent("timestamp", "pruned", reason)
            raise error.within(f"events[{index}]") if len(events) > 1 else error


def _count(environment: str, written: Written, rules: list[MeterRule], rollups: RollupWriter) -> None:
    """Count what was written in every meter, where some of it replaces other values."""
    names = {old.event_name for old, _ in written.replaced} - {rule.event_name for rule in rules}
    if names:
        rules = rules + rules_for(environment, names, rollups.alias)
    subtracting = [rule for rule in rules if rule.subtracts]
    others = [rule for rule in rules if not rule.subtracts]
    partials = fold(written.new, rules)
    fold([old for old, _ in written.replaced], subtracting, partials, sign=-1)
    fold([new for _, new in written.replaced], subtracting, partials)
    spans = _spans_touched(written.replaced, others)
    if spans:
        for meter_id in sorted({span.rule.meter_id for span in spans}):
            rollups.lock_meter(meter_id)  # before any series is made, as a rebuild does
        keys = partials.keys() | fold([new for _, new in written.replaced], others).keys()
        rollups.series_ids(environment, {series for series, _ in keys})  # all at once, hence in the order of other writers
        grains = {rule.meter_id: rule.recount_grain for rule in rules}
        recounted = {(span.rule.meter_id, span.customer, span.start) for span in spans}
        partials = {  # what is recounted is read from the events themselves, the new ones among them
            (series, start): partial
            for (series, start), partial in partials.items()
            if (series.meter_id, series.external_customer_id, bucket(start, grains[series.meter_id])) not in recounted
        }
    rollups.append(environment, partials, rules)
    for (rule, start, end), customers in sorted(_joined(spans).items(), key=lambda item: (item[0][0].meter_id, item[0][1:])):
        for place in range(0, len(customers), CUSTOMERS_AT_ONCE):
            rollups.recount(environment, rule, customers[place : place + CUSTOMERS_AT_ONCE], start, end)


class _Span(NamedTuple):
    rule: MeterRule
    customer: str
    start: datetime


def _spans_touched(replaced: Sequence[tuple[UsageEvent, UsageEvent]], rules: Sequence[MeterRule]) -> set[_Span]:
    """The spans that events left and entered."""
    return {
        _Span(rule, event.external_customer_id, bucket(event.timestamp, rule.recount_grain))
        for pair in replaced
        for event in pair
        for rule in rules
        if rule.matches(event)
    }


def _joined(spans: Iterable[_Span]) -> dict[tuple[MeterRule, datetime, datetime], list[str]]:
    """Customers by rule and stretch: spans of one customer that touch, within a day, are recounted at once."""
    stretches: list[tuple[_Span, datetime]] = []
    for span in sorted(spans, key=lambda span: (span.rule.meter_id, span.customer, span.start)):
        end = next_bucket(span.start, span.rule.recount_grain)
        if stretches:
            first, reached = stretches[-1]
            same = (first.rule, first.customer, bucket(first.start, DAY)) == (span.rule, span.customer, bucket(span.start, DAY))
            if same and reached == span.start:
                stretches[-1] = (first, end)
                continue
        stretches.append((span, end))
    joined: dict[tuple[MeterRule, datetime, datetime], list[str]] = {}
    for span, end in stretches:
        joined.setdefault((span.rule, span.start, end), []).append(span.customer)
    return joined
