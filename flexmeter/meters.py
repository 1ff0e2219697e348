"""Meters: defined, changed and archived, with their rollups kept in step.

A change takes the environment's meter lock for an instant, so that every ingestion is either counted by the rules as
they were and recounted from history, or counted by the new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from flexmeter.aggregation import MEASURES, AggregationType
from flexmeter.conf import conf
from flexmeter.exceptions import InvalidMeter, MeterNotFound
from flexmeter.expressions import ExpressionError, compile_expression
from flexmeter.maintenance.rebuild import count_past_events, delete_older_generations, rebuild
from flexmeter.metering import MAX_DIMENSIONS
from flexmeter.models import DEFAULT_ENVIRONMENT, Meter, now
from flexmeter.properties import text_fault
from flexmeter.stores.database.locks import meter_lock, retained_from
from flexmeter.stores.database.transactions import in_transaction, write_alias
from flexmeter.windows import WindowSize

BUCKETED_TYPES = frozenset({AggregationType.MAX, AggregationType.SUM})
EXPRESSION_TYPES = frozenset(
    {AggregationType.SUM, AggregationType.AVG, AggregationType.MAX, AggregationType.MIN, AggregationType.LATEST}
)
MAX_MULTIPLIER_DIGITS = 100
_OF_THE_ANSWER = frozenset({"name", "multiplier", "reset_usage"})
"""Columns that rollups know nothing of."""


@dataclass(frozen=True, slots=True)
class MeterDefinition:
    """What a meter is to count. `filters` are (property, values) pairs; `""` stands for "not given" in the texts.

    `dimensions`, at most three properties, change no figure: the meter's rollups are kept apart by their values, so that
    questions that filter or group by them are answered from rollups too.
    """

    name: str
    event_name: str
    aggregation_type: str
    field: str = ""
    expression: str = ""
    multiplier: Decimal | None = None
    bucket_size: str = ""
    group_by: str = ""
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    reset_usage: str = Meter.ResetUsage.BILLING_PERIOD
    dimensions: tuple[str, ...] = ()

    def validated(self) -> MeterDefinition:
        """The definition with its event name trimmed. Raises InvalidMeter for the first rule it breaks."""
        for member in ("name", "event_name"):
            value = getattr(self, member)
            if not value.strip():
                raise InvalidMeter("Request validation failed", {member: "is required and must not be blank"})
        texts = {
            "name": self.name,
            "event_name": self.event_name,
            "aggregation.field": self.field,
            "aggregation.group_by": self.group_by,
        }
        for member, value in texts.items():
            if len(value) > 255:
                raise InvalidMeter("Request validation failed", {member: "must not be longer than 255 characters"})
            if reason := text_fault(value):
                raise InvalidMeter("Request validation failed", {member: reason})
        type = self._type()
        self._check_measured(type)
        self._check_multiplier(type)
        self._check_buckets(type)
        check_filters(self.filters)
        check_dimensions(self.dimensions)
        if self.reset_usage not in Meter.ResetUsage.values:
            raise InvalidMeter(
                "Invalid reset usage", {"allowed_values": list(Meter.ResetUsage.values), "provided_value": self.reset_usage}
            )
        return MeterDefinition(
            self.name, self.event_name.strip(), type.value, self.field, self.expression,
            self.multiplier if type is AggregationType.SUM_WITH_MULTIPLIER else None,
            self.bucket_size, self.group_by, self.filters, self.reset_usage, self.dimensions,
        )  # fmt: skip

    def _type(self) -> AggregationType:
        try:
            return AggregationType(self.aggregation_type)
        except ValueError:
            raise InvalidMeter("Please provide a valid aggregation type", {"aggregation.type": self.aggregation_type}) from None

    def _check_measured(self, type: AggregationType) -> None:
        if self.expression:
            if type not in EXPRESSION_TYPES:
                raise InvalidMeter("Use SUM, AVG, MAX or LATEST when providing an expression", {"aggregation.type": type.value})
            if self.field:
                raise InvalidMeter(
                    "Provide either field or expression, not both", {"aggregation.expression": self.expression[:100]}
                )
            try:
                compile_expression(self.expression)
            except ExpressionError as error:
                raise InvalidMeter(f"The expression is not valid: {error}", {"aggregation.expression": str(error)}) from error
        elif not self.field and (MEASURES[type] or type is not AggregationType.COUNT):
            raise InvalidMeter(
                "Please specify a field or expression for this aggregation type", {"aggregation.field": "is required"}
            )

    def _check_multiplier(self, type: AggregationType) -> None:
        if type is not AggregationType.SUM_WITH_MULTIPLIER:
            return
        if self.multiplier is None:
            raise InvalidMeter("Please provide a multiplier value", {"aggregation.multiplier": "is required"})
        check_multiplier(self.multiplier)

    def _check_buckets(self, type: AggregationType) -> None:
        if self.bucket_size:
            if type not in BUCKETED_TYPES:
                raise InvalidMeter(
                    "BucketSize is only valid for MAX or SUM aggregation type", {"aggregation.bucket_size": self.bucket_size}
                )
            if self.bucket_size not in WindowSize.__members__.values():
                raise InvalidMeter(
                    "Please provide a valid window size for bucket_size", {"aggregation.bucket_size": self.bucket_size}
                )
        if self.group_by and not (type is AggregationType.MAX and self.bucket_size):
            raise InvalidMeter(
                "GroupBy is only valid for MAX aggregation type with a bucket_size configured",
                {"aggregation.group_by": self.group_by},
            )


def check_multiplier(multiplier: Decimal) -> None:
    """Raises InvalidMeter unless the multiplier is positive and of a size that keeps sums exact."""
    if not multiplier.is_finite() or multiplier <= 0:
        raise InvalidMeter("Multiplier must be greater than zero", {"multiplier": str(multiplier)[:100]})
    exponent = multiplier.as_tuple().exponent
    if abs(multiplier.adjusted()) > MAX_MULTIPLIER_DIGITS or not isinstance(exponent, int) or exponent < -MAX_MULTIPLIER_DIGITS:
        raise InvalidMeter(
            f"Multiplier must not have more than {MAX_MULTIPLIER_DIGITS} digits", {"multiplier": "too many digits"}
        )


def check_filters(filters: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Raises InvalidMeter for a filter without key or values, or with text that cannot be stored."""
    count = 0
    for index, (key, values) in enumerate(filters):
        if not key:
            raise InvalidMeter("Please provide a key for each filter", {f"filters[{index}].key": "is required"})
        if not values:
            raise InvalidMeter("Please provide at least one value for each filter", {f"filters[{index}].values": "is required"})
        for text in (key, *values):
            if reason := text_fault(text):
                raise InvalidMeter("Request validation failed", {f"filters[{index}]": reason})
        count += len(values)
    if count > conf.MAX_FILTER_VALUES:
        raise InvalidMeter(
            f"A meter may not have more than {conf.MAX_FILTER_VALUES} filter values", {"filters": f"{count} values"}
        )


def check_dimensions(dimensions: Sequence[str]) -> None:
    """Raises InvalidMeter for too many properties, for one twice, or for what can be no property's name."""
    if len(dimensions) > MAX_DIMENSIONS:
        message = f"A meter may not have more than {MAX_DIMENSIONS} dimensions"
        raise InvalidMeter(message, {"dimensions": f"{len(dimensions)} properties"})
    for index, name in enumerate(dimensions):
        reason = text_fault(name) if name else "is required"
        if len(name) > 255:
            reason = "must not be longer than 255 characters"
        elif name in dimensions[:index]:
            reason = "is there twice"
        if reason:
            raise InvalidMeter("Please provide distinct properties as dimensions", {f"dimensions[{index}]": reason})


def create_meter(
    definition: MeterDefinition, *, environment: str = DEFAULT_ENVIRONMENT, by: str = "", using: str | None = None
) -> Meter:
    """Create a published meter. It counts history too.

    With at most FLEXMETER_REBUILD_INLINE_EVENTS past events its rollups are complete when this returns; with more,
    figures come from raw events until `flexmeter_rebuild` has run. Raises InvalidMeter.
    """
    alias, valid = using or write_alias(), definition.validated()

    def create() -> Meter:
        meter_lock(alias).exclude(environment)
        return Meter.objects.using(alias).create(
            environment=environment,
            **columns_of(valid),
            counted_from=retained_from(environment, alias),
            created_by=by,
            updated_by=by,
        )

    return _filled(in_transaction(alias, create), alias)


def add_filters(
    meter_id: str,
    filters: Sequence[tuple[str, Sequence[str]]],
    *,
    dimensions: Sequence[str] | None = None,
    environment: str,
    by: str = "",
    using: str | None = None,
) -> Meter:
    """Merge filters into a meter: new keys and values are added, nothing is removed, and history is recounted.

    `dimensions`, where given, take the place of those it has. Raises InvalidMeter for unusable ones, and MeterNotFound.
    """
    if dimensions is not None:
        check_dimensions(dimensions)
    elif not filters:
        raise InvalidMeter("At least one filter must be provided", {"filters": "must not be empty"})
    check_filters(filters)
    alias = using or write_alias()

    def change() -> Meter:
        meter_lock(alias).exclude(environment)
        meter = _locked(meter_id, environment, alias)
        held = [(entry["key"], entry["values"]) for entry in meter.filters]
        merged = merged_filters(held, filters)
        check_filters(merged.items())
        kept = meter.dimensions if dimensions is None else list(dimensions)
        if merged == merged_filters((), held) and kept == meter.dimensions:
            return meter
        meter.filters, meter.dimensions = stored_filters(merged), kept
        meter.updated_at, meter.updated_by = now(), by
        _count_anew(meter, alias)
        meter.save(using=alias)
        return meter

    return _filled(in_transaction(alias, change), alias)


def change_meter(
    meter_id: str, definition: MeterDefinition, *, environment: str, by: str = "", using: str | None = None
) -> Meter:
    """Give a meter another definition. Where it changes what counts, history is recounted, as after `create_meter`.

    What rollups alone still knew, of events that retention has removed, is lost with a recount. Raises InvalidMeter and
    MeterNotFound.
    """
    alias, valid = using or write_alias(), definition.validated()

    def change() -> Meter:
        meter_lock(alias).exclude(environment)
        meter = _locked(meter_id, environment, alias)
        if not _defined_by(meter, valid):
            if recounts(meter, valid):
                _count_anew(meter, alias)
            for column, value in columns_of(valid).items():
                setattr(meter, column, value)
            meter.updated_at, meter.updated_by = now(), by
            meter.save(using=alias)
        return meter

    return _filled(in_transaction(alias, change), alias)


def recounts(meter: Meter, definition: MeterDefinition) -> bool:
    """Whether the definition would have the meter count its history anew. A name or a multiplier does not."""
    return any(
        getattr(meter, column) != value for column, value in columns_of(definition).items() if column not in _OF_THE_ANSWER
    )


def definition_of(meter: Meter) -> MeterDefinition:
    """What a meter counts, as it was defined."""
    return MeterDefinition(
        meter.name, meter.event_name, meter.aggregation_type, meter.field, meter.expression, meter.multiplier,
        meter.bucket_size, meter.group_by, tuple((entry["key"], tuple(entry["values"])) for entry in meter.filters),
        meter.reset_usage, tuple(meter.dimensions),
    )  # fmt: skip


def columns_of(definition: MeterDefinition) -> dict[str, Any]:
    """A validated definition as the columns of the model."""
    return {
        "name": definition.name,
        "event_name": definition.event_name,
        "aggregation_type": definition.aggregation_type,
        "field": definition.field,
        "expression": definition.expression,
        "multiplier": definition.multiplier,
        "bucket_size": definition.bucket_size,
        "group_by": definition.group_by,
        "filters": stored_filters(merged_filters((), definition.filters)),
        "reset_usage": definition.reset_usage,
        "dimensions": list(definition.dimensions),
    }


def archive_meter(meter_id: str, *, environment: str, by: str = "", using: str | None = None) -> Meter:
    """Stop a meter from counting what is accepted from now on; what it has counted stays answerable.

    Archiving again changes nothing. Raises MeterNotFound.
    """
    alias = using or write_alias()

    def archive() -> Meter:
        meter_lock(alias).exclude(environment)
        meter = _locked(meter_id, environment, alias)
        if meter.status == Meter.Status.PUBLISHED:
            meter.status = Meter.Status.ARCHIVED
            meter.archived_at = meter.updated_at = now()
            meter.updated_by = by
            meter.save(using=alias)
        return meter

    return in_transaction(alias, archive)


def unarchive_meter(meter_id: str, *, environment: str, by: str = "", using: str | None = None) -> Meter:
    """Let an archived meter count again, as if it had never been archived: what came meanwhile is recounted.

    What rollups alone still knew, of events that retention has removed, is lost with the recount. A published meter
    stays as it is. Raises MeterNotFound.
    """
    alias = using or write_alias()

    def unarchive() -> Meter:
        meter_lock(alias).exclude(environment)
        meter = _locked(meter_id, environment, alias)
        if meter.status == Meter.Status.ARCHIVED:
            meter.status, meter.archived_at = Meter.Status.PUBLISHED, None
            meter.updated_at, meter.updated_by = now(), by
            _count_anew(meter, alias)
            meter.save(using=alias)
        return meter

    return _filled(in_transaction(alias, unarchive), alias)


def delete_meter(meter_id: str, *, environment: str, by: str = "", using: str | None = None) -> None:
    """Delete a meter and its rollups; its events stay. From now on its id is unknown. Raises MeterNotFound."""
    alias = using or write_alias()

    def delete() -> None:
        meter_lock(alias).exclude(environment)
        meter = _locked(meter_id, environment, alias)
        _count_anew(meter, alias)
        meter.status, meter.rollups_ready = Meter.Status.DELETED, True  # nothing is left to be counted
        meter.archived_at = meter.archived_at or now()
        meter.updated_at, meter.updated_by = now(), by
        meter.save(using=alias)

    in_transaction(alias, delete)
    delete_older_generations(meter_id, alias)


def find_meter(meter_id: str, *, environment: str, using: str) -> Meter:
    """The meter of that id in that environment. Raises MeterNotFound, also for another environment's meter."""
    meters = Meter.objects.using(using).in_environment(environment).exclude(status=Meter.Status.DELETED)
    meter: Meter | None = meters.filter(pk=meter_id).first()
    if meter is None:
        raise MeterNotFound(meter_id)
    return meter


def merged_filters(held: Iterable[tuple[str, Sequence[str]]], added: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Both lists of filters as one: keys and values in the order they first appear, duplicates dropped."""
    merged: dict[str, list[str]] = {}
    for filters in (held, added):
        for key, values in filters:
            known = merged.setdefault(key, [])
            known.extend(value for value in dict.fromkeys(values) if value not in known)
    return merged


def stored_filters(filters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Filters in the form the model keeps and the API shows."""
    return [{"key": key, "values": list(values)} for key, values in filters.items()]


def _defined_by(meter: Meter, definition: MeterDefinition) -> bool:
    return all(getattr(meter, column) == value for column, value in columns_of(definition).items())


def _count_anew(meter: Meter, alias: str) -> None:
    """Make the meter's rollups those of an older rule; nothing is saved."""
    meter.generation += 1
    meter.dimensions_passed_at = None
    meter.counted_from = retained_from(meter.environment, alias)
    meter.rollups_ready, meter.rebuild_after, meter.rebuild_done, meter.rebuild_total = False, None, 0, 0


def _locked(meter_id: str, environment: str, alias: str) -> Meter:
    meters = Meter.objects.using(alias).in_environment(environment).select_for_update()
    meter: Meter | None = meters.exclude(status=Meter.Status.DELETED).filter(pk=meter_id).first()
    if meter is None:
        raise MeterNotFound(meter_id)
    return meter


def _filled(meter: Meter, alias: str) -> Meter:
    if meter.rollups_ready:
        return meter
    limit = conf.REBUILD_INLINE_EVENTS
    if count_past_events(meter, limit + 1, alias) <= limit:
        rebuild(meter.pk, using=alias)
        meter.refresh_from_db(using=alias)
    return meter
