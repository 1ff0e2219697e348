"""The ledger, the meters, and what is derived from both.

Events are the truth. Rollups repeat it in the shape questions are asked in; each row is what one transaction
contributed to a bucket, so readers add rows up and ingestion never waits for a row another one holds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django.db import models
from django.utils.translation import gettext_lazy as _

from flexmeter.aggregation import AggregationType
from flexmeter.conf import conf
from flexmeter.events import MAX_SENDER_LENGTH, UsageEvent, new_id
from flexmeter.expressions import compile_expression
from flexmeter.fields import ExactDecimalField, IdentifierField, JsonTextField
from flexmeter.indexes import OrderingIndex
from flexmeter.metering import MAX_DIMENSION_LENGTH, NO_GROUP, MeterRule, filters_of
from flexmeter.properties import dumps
from flexmeter.querysets import ApiKeyQuerySet, EventQuerySet, MeterQuerySet
from flexmeter.slots import began, level_of, new_part
from flexmeter.windows import WindowSize

DEFAULT_ENVIRONMENT = "default"


def now() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(UTC)


def new_meter_id() -> str:
    return new_id("meter")


class Environment(models.Model):
    """A scope of events, meters and keys, such as a tenant or a stage.

    `pruned_before` is the retention floor: events before it are gone or going, and only rollups answer for them.
    """

    name = IdentifierField(max_length=64, primary_key=True)
    pruned_before = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)

    def __str__(self) -> str:
        return str(self.name)


class Event(models.Model):
    """One usage event as it stands now; replaced values are kept as EventRevision."""

    environment = IdentifierField(max_length=64)
    event_id = IdentifierField(max_length=255)
    event_name = IdentifierField(max_length=255)
    external_customer_id = IdentifierField(max_length=255)
    customer_id = IdentifierField(max_length=255, default="", blank=True)
    source = IdentifierField(max_length=255, default="", blank=True)
    timestamp = models.DateTimeField(help_text="When it happened.")
    accepted_at = models.DateTimeField(help_text="When it was taken in.")
    ingested_at = models.DateTimeField(help_text="When it was stored and counted.")
    repeated_at = models.DateTimeField(null=True, blank=True, help_text="When it was last accepted again without a change.")
    properties = JsonTextField(null=True, blank=True)
    sender = IdentifierField(max_length=MAX_SENDER_LENGTH, null=True, blank=True, help_text="The API key it came with.")

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        # The id comes first: one comparison finds its place, and ids that grow with time all go to the same end.
        constraints = [models.UniqueConstraint(fields=["event_id", "environment"], name="flexmeter_event_identity")]
        indexes = [
            models.Index(fields=["environment", "event_name", "external_customer_id", "timestamp"], name="flexmeter_event_usage"),
            OrderingIndex(fields=["environment", "timestamp", "event_id"], name="flexmeter_event_listing"),
        ]

    def __str__(self) -> str:
        return str(self.event_id)

    def as_usage_event(self) -> UsageEvent:
        text = None if self.properties is None else dumps(self.properties)
        return UsageEvent(
            event_id=self.event_id,
            event_name=self.event_name,
            external_customer_id=self.external_customer_id,
            timestamp=self.timestamp,
            accepted_at=self.accepted_at,
            properties=self.properties,
            properties_json=text,
            source=self.source,
            customer_id=self.customer_id,
            sender=self.sender or "",
        )


class EventRevision(models.Model):
    """The values an event had before it was sent again with others."""

    environment = IdentifierField(max_length=64)
    event_id = IdentifierField(max_length=255)
    event_name = IdentifierField(max_length=255)
    external_customer_id = IdentifierField(max_length=255)
    customer_id = IdentifierField(max_length=255, default="", blank=True)
    source = IdentifierField(max_length=255, default="", blank=True)
    timestamp = models.DateTimeField()
    accepted_at = models.DateTimeField()
    replaced_at = models.DateTimeField(default=now)
    properties = JsonTextField(null=True, blank=True)
    sender = IdentifierField(max_length=MAX_SENDER_LENGTH, null=True, blank=True, help_text="The API key it came with.")

    class Meta:
        indexes = [models.Index(fields=["environment", "event_id"], name="flexmeter_revision_event")]

    def __str__(self) -> str:
        return f"{self.event_id} until {self.replaced_at:%Y-%m-%d %H:%M:%S}"


class InboxBatch(models.Model):
    """Events that were accepted but are not counted yet: one row for each call, removed by the commit that counts them.

    `events` and `sender` are read by `flexmeter.batches`. `attempts` counts the drains that failed on it although the
    database was there; `size` is about its characters.
    """

    environment = IdentifierField(max_length=64)
    events = JsonTextField()
    event_count = models.PositiveIntegerField()
    size = models.PositiveIntegerField(default=0)
    sender = IdentifierField(max_length=MAX_SENDER_LENGTH, default="", blank=True, help_text="The API key they came with.")
    attempts = models.PositiveIntegerField(default=0)
    accepted_at = models.DateTimeField()

    class Meta:
        verbose_name = _("inbox batch")
        verbose_name_plural = _("inbox batches")
        indexes = [
            models.Index(fields=["environment"], name="flexmeter_inbox_environment"),
            models.Index(fields=["attempts", "id"], name="flexmeter_inbox_order"),
        ]

    def __str__(self) -> str:
        return f"{self.event_count} events of {self.accepted_at:%Y-%m-%d %H:%M:%S}"


class RejectedEvent(models.Model):
    """An event that was taken in but could not be counted; nothing is dropped without a row here."""

    environment = IdentifierField(max_length=64)
    event_id = IdentifierField(max_length=255, default="", blank=True)
    body = JsonTextField(help_text="The event as it was accepted.")
    reason = models.CharField(max_length=64, help_text="A stable code, such as conflict.")
    detail = models.TextField(default="", blank=True)
    traceback = models.TextField(default="", blank=True)
    attempts = models.PositiveIntegerField(default=1)
    accepted_at = models.DateTimeField()
    rejected_at = models.DateTimeField(default=now)

    class Meta:
        verbose_name = _("rejected event")
        verbose_name_plural = _("rejected events")
        indexes = [
            models.Index(fields=["environment", "event_id"], name="flexmeter_rejected_event"),
            models.Index(fields=["environment", "rejected_at"], name="flexmeter_rejected_time"),
            models.Index(fields=["environment", "reason", "rejected_at"], name="flexmeter_rejected_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id}: {self.reason}"


class Meter(models.Model):
    """Which events count, and how they become usage.

    `generation` names the rule's version: rollups of an older generation are never read. Until `rollups_ready` the
    figures come from raw events.
    """

    class Status(models.TextChoices):
        PUBLISHED = "published"
        ARCHIVED = "archived"
        DELETED = "deleted"

    class ResetUsage(models.TextChoices):
        BILLING_PERIOD = "BILLING_PERIOD"
        NEVER = "NEVER"

    id = IdentifierField(max_length=64, primary_key=True, default=new_meter_id, editable=False)
    environment = IdentifierField(max_length=64, default=DEFAULT_ENVIRONMENT)
    name = models.CharField(max_length=255)
    event_name = IdentifierField(max_length=255)
    aggregation_type = models.CharField(max_length=32, choices=[(type.value, type.value) for type in AggregationType])
    field = IdentifierField(max_length=255, default="", blank=True, help_text="The property to aggregate.")
    expression = models.TextField(default="", blank=True)
    multiplier = ExactDecimalField(null=True, blank=True)
    bucket_size = models.CharField(
        max_length=8, default="", blank=True, choices=[(size.value, size.value) for size in WindowSize]
    )
    group_by = IdentifierField(max_length=255, default="", blank=True)
    filters = JsonTextField(default=list, blank=True, help_text='A list of {"key": …, "values": […]}.')
    dimensions = JsonTextField(default=list, blank=True, help_text="Properties by whose values rollups are kept apart.")
    dimensions_passed_at = models.DateTimeField(
        null=True, editable=False, help_text="When a customer first had more combinations of values than are kept apart."
    )
    reset_usage = models.CharField(max_length=16, choices=ResetUsage.choices, default=ResetUsage.BILLING_PERIOD)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PUBLISHED)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=now, editable=False)
    created_by = models.CharField(max_length=255, default="", blank=True)
    updated_at = models.DateTimeField(default=now, editable=False)
    updated_by = models.CharField(max_length=255, default="", blank=True)
    generation = models.PositiveIntegerField(default=1, editable=False)
    counted_from = models.DateTimeField(
        null=True, editable=False, help_text="Events before this were pruned before the rule could count them."
    )
    rollups_ready = models.BooleanField(default=False, editable=False)
    rebuild_after = JsonTextField(null=True, blank=True, editable=False, help_text="How far the rebuild has come.")
    rebuild_done = models.PositiveBigIntegerField(default=0, editable=False)
    rebuild_total = models.PositiveBigIntegerField(default=0, editable=False)

    objects = MeterQuerySet.as_manager()

    class Meta:
        verbose_name = _("meter")
        verbose_name_plural = _("meters")
        indexes = [models.Index(fields=["environment", "event_name"], name="flexmeter_meter_event_name")]

    def __str__(self) -> str:
        return str(self.name)

    def rule(self) -> MeterRule:
        """This meter as a pure rule."""
        return MeterRule(
            event_name=self.event_name,
            type=AggregationType(self.aggregation_type),
            field=self.field,
            expression=compile_expression(self.expression) if self.expression else None,
            multiplier=self.multiplier if self.multiplier is not None else Decimal(1),
            bucket_size=WindowSize(self.bucket_size) if self.bucket_size else None,
            group_by=self.group_by,
            filters=filters_of((entry["key"], entry["values"]) for entry in self.filters),
            meter_id=self.id,
            generation=self.generation,
            archived_at=self.archived_at,
            count_missing=conf.COUNT_UNIQUE_MISSING == "count",
            dimensions=tuple(self.dimensions),
        )


class Series(models.Model):
    """A narrow key for rollup rows: one meter generation, one customer, one group, one combination of dimensions' values.

    Of a meter with dimensions, series without values (NULL) hold what is not kept apart.
    """

    id = models.AutoField(primary_key=True)
    environment = IdentifierField(max_length=64)
    # A constraint would have every new series wait for whoever holds the meter's row lock, and deadlock with it at commit.
    meter = models.ForeignKey(Meter, on_delete=models.CASCADE, related_name="series", db_constraint=False, db_index=False)
    generation = models.PositiveIntegerField()
    external_customer_id = IdentifierField(max_length=255)
    group = models.UUIDField(default=NO_GROUP)
    combination = models.UUIDField(default=NO_GROUP, help_text="A digest of the values.")
    dimension_1 = IdentifierField(max_length=MAX_DIMENSION_LENGTH, null=True)
    dimension_2 = IdentifierField(max_length=MAX_DIMENSION_LENGTH, null=True)
    dimension_3 = IdentifierField(max_length=MAX_DIMENSION_LENGTH, null=True)

    class Meta:
        verbose_name_plural = "series"
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "meter", "generation", "external_customer_id", "group", "combination"],
                name="flexmeter_series_identity",
            )
        ]

    def __str__(self) -> str:
        return f"{self.meter_id} {self.external_customer_id}"


class Rollup(models.Model):
    """What is known of one bucket of a series, or of a whole UTC day of it. Measures a meter does not need are NULL.

    Ingestion appends what one transaction contributed to a bucket; compaction merges that into one row for the bucket and
    one for its day, which repeats what the day's bucket rows say. So a bucket is its APPENDED and BUCKET rows together,
    and a whole UTC day its APPENDED and DAY rows.

    The primary key begins with what is asked for, so that each row is in one index only; a number that is nobody's else
    tells apart what transactions contributed to one bucket without their having to know of each other. Most of what a row
    takes, on disk and of time, is its place in that index, so the key is as narrow as it can be.
    """

    class Level(models.IntegerChoices):
        APPENDED = 0
        BUCKET = 1
        DAY = 2

    series = models.ForeignKey(Series, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    slot = models.IntegerField(help_text="The level, and the quarter of an hour it begins in.")
    part = models.BigIntegerField(help_text="The minute of that quarter, and a number of its own.")
    count = models.BigIntegerField()
    total = ExactDecimalField(null=True)
    moment = ExactDecimalField(null=True)
    minimum = ExactDecimalField(null=True)
    maximum = ExactDecimalField(null=True)
    latest = ExactDecimalField(null=True)
    latest_at = models.DateTimeField(null=True)
    latest_accepted_at = models.DateTimeField(null=True)
    latest_event_id = IdentifierField(max_length=255, null=True)

    pk = models.CompositePrimaryKey("series", "slot", "part")

    def __str__(self) -> str:
        return f"{self.series_id} {self.bucket:%Y-%m-%d %H:%M}"

    @property
    def level(self) -> Level:
        """What it is a row of."""
        return self.Level(level_of(self.slot))

    @property
    def bucket(self) -> datetime:
        """Start of the bucket, or of the UTC day."""
        return began(self.slot, self.part)


class UniqueValue(models.Model):
    """A value that occurred in a series on a UTC day, as a digest; rows may repeat until they are compacted."""

    series = models.ForeignKey(Series, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    day = models.DateTimeField(help_text="Start of the UTC day.")
    value = models.UUIDField()
    part = models.BigIntegerField(default=new_part, editable=False)

    pk = models.CompositePrimaryKey("series", "day", "value", "part")

    def __str__(self) -> str:
        return f"{self.series_id} {self.day:%Y-%m-%d} {self.value}"


class ApiKey(models.Model):
    """A key for the HTTP API, bound to one environment. Only a hash of the secret is stored."""

    class Scope(models.TextChoices):
        INGEST = "ingest"
        READ = "read"
        ADMIN = "admin"

    id = IdentifierField(max_length=64, primary_key=True, editable=False)
    environment = IdentifierField(max_length=64, default=DEFAULT_ENVIRONMENT)
    name = models.CharField(max_length=255)
    prefix = IdentifierField(max_length=16, unique=True, editable=False)
    secret_hash = IdentifierField(max_length=64, editable=False)
    scopes = JsonTextField(default=list)
    created_at = models.DateTimeField(default=now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class LastRun(models.Model):
    """When a recurring task last ended, and what it found. `environment` is "" where it was about all of them."""

    task = IdentifierField(max_length=64)
    environment = IdentifierField(max_length=64, default="", blank=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    result = JsonTextField(null=True, blank=True)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["task", "environment"], name="flexmeter_last_run_identity")]

    def __str__(self) -> str:
        return f"{self.task} until {self.ended_at:%Y-%m-%d %H:%M:%S}"


class Health(LastRun):
    """How the installation fares: no table, but a place in the admin with a permission of its own."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = _("health")
        verbose_name_plural = _("health")
