"""Who is charged for usage, and how much: customers, features, plans, prices, subscriptions and their line items.

Everything belongs to an environment, like the meters and events it is about, and lies in the same database.
"""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from flexmeter.events import new_id
from flexmeter.fields import ExactDecimalField, IdentifierField, JsonTextField
from flexmeter.models import DEFAULT_ENVIRONMENT, Meter, now
from flexmeter.pricing.commitments import Commitment, CommitmentType
from flexmeter.pricing.cost import FlatFee, Package, PackageRounding, Rate, Slab, Tier, Volume
from flexmeter.pricing.coupons import PercentageOff


class Status(models.TextChoices):
    PUBLISHED = "published", _("published")
    ARCHIVED = "archived", _("archived")
    DELETED = "deleted", _("deleted")


class BillingPeriod(models.TextChoices):
    DAILY = "DAILY", _("daily")
    WEEKLY = "WEEKLY", _("weekly")
    MONTHLY = "MONTHLY", _("monthly")
    QUARTERLY = "QUARTERLY", _("quarterly")
    HALF_YEARLY = "HALF_YEARLY", _("half-yearly")
    ANNUAL = "ANNUAL", _("annual")


def new_customer_id() -> str:
    return new_id("cust")


def new_feature_id() -> str:
    return new_id("feat")


def new_plan_id() -> str:
    return new_id("plan")


def new_price_id() -> str:
    return new_id("price")


def new_subscription_id() -> str:
    return new_id("subs")


def new_line_item_id() -> str:
    return new_id("subs_line")


def new_coupon_id() -> str:
    return new_id("coupon")


def new_coupon_association_id() -> str:
    return new_id("coupon_assoc")


class Record(models.Model):
    """What all of these have in common."""

    environment = IdentifierField(max_length=64, default=DEFAULT_ENVIRONMENT)
    created_at = models.DateTimeField(default=now, editable=False)
    created_by = models.CharField(max_length=255, default="", blank=True, editable=False)
    updated_at = models.DateTimeField(default=now, editable=False)
    updated_by = models.CharField(max_length=255, default="", blank=True, editable=False)

    class Meta:
        abstract = True


class Customer(Record):
    """Somebody who is charged. `external_id` is what events call it.

    `host_model` ("app_label.model") and `host_pk` may name a row of the host project that this customer stands for.
    """

    id = IdentifierField(max_length=64, primary_key=True, default=new_customer_id, editable=False)
    external_id = IdentifierField(max_length=255, help_text=_("The external_customer_id of its events."))
    name = models.CharField(max_length=255, default="", blank=True)
    email = models.CharField(max_length=254, default="", blank=True)
    timezone = models.CharField(
        max_length=64, default="", blank=True, help_text=_("Of its days and months, such as Asia/Tokyo. UTC if empty.")
    )
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    host_model = models.CharField(max_length=255, default="", blank=True, help_text=_("app_label.model"))
    host_pk = models.CharField(max_length=255, default="", blank=True)
    metadata = JsonTextField(default=dict, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PUBLISHED)

    class Meta:
        verbose_name = _("customer")
        verbose_name_plural = _("customers")
        constraints = [models.UniqueConstraint(fields=["environment", "external_id"], name="flexmeter_customer_identity")]
        indexes = [
            models.Index(fields=["environment", "created_at", "id"], name="flexmeter_customer_created"),
            models.Index(fields=["environment", "host_model", "host_pk"], name="flexmeter_customer_host"),
        ]

    def __str__(self) -> str:
        return str(self.name or self.external_id)


class Feature(Record):
    """How a meter's usage is called and counted towards customers; a meter has at most one."""

    class Type(models.TextChoices):
        METERED = "metered", _("metered")

    id = IdentifierField(max_length=64, primary_key=True, default=new_feature_id, editable=False)
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="features")
    name = models.CharField(max_length=255)
    lookup_key = IdentifierField(max_length=255, default="", blank=True)
    description = models.TextField(default="", blank=True)
    type = models.CharField(max_length=16, choices=Type.choices, default=Type.METERED)
    unit_singular = models.CharField(max_length=64, default="", blank=True, help_text=_("Such as token."))
    unit_plural = models.CharField(max_length=64, default="", blank=True, help_text=_("Such as tokens."))
    reporting_unit_singular = models.CharField(max_length=64, default="", blank=True, help_text=_("Such as million tokens."))
    reporting_unit_plural = models.CharField(max_length=64, default="", blank=True)
    reporting_conversion_rate = ExactDecimalField(
        null=True, blank=True, help_text=_("How many units are one reporting unit, such as 1000000.")
    )
    metadata = JsonTextField(default=dict, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PUBLISHED)

    class Meta:
        verbose_name = _("feature")
        verbose_name_plural = _("features")
        constraints = [models.UniqueConstraint(fields=["environment", "meter"], name="flexmeter_feature_meter")]
        indexes = [
            models.Index(fields=["environment", "lookup_key"], name="flexmeter_feature_key"),
            models.Index(fields=["environment", "created_at", "id"], name="flexmeter_feature_created"),
        ]

    def __str__(self) -> str:
        return str(self.name)


class Plan(Record):
    """A set of prices that customers subscribe to."""

    id = IdentifierField(max_length=64, primary_key=True, default=new_plan_id, editable=False)
    name = models.CharField(max_length=255)
    lookup_key = IdentifierField(max_length=255, default="", blank=True)
    description = models.TextField(default="", blank=True)
    metadata = JsonTextField(default=dict, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PUBLISHED)

    class Meta:
        verbose_name = _("plan")
        verbose_name_plural = _("plans")
        indexes = [
            models.Index(fields=["environment", "lookup_key"], name="flexmeter_plan_key"),
            models.Index(fields=["environment", "created_at", "id"], name="flexmeter_plan_created"),
        ]

    def __str__(self) -> str:
        return str(self.name)


class Price(Record):
    """What the usage of a meter costs, or a fixed fee. `entity_type` and `entity_id` say who owns it.

    A price of a SUBSCRIPTION is an override of the plan's price that `parent_price_id` names.
    """

    class Type(models.TextChoices):
        USAGE = "USAGE", _("usage")
        FIXED = "FIXED", _("fixed")

    class BillingModel(models.TextChoices):
        FLAT_FEE = "FLAT_FEE", _("flat fee")
        PACKAGE = "PACKAGE", _("package")
        TIERED = "TIERED", _("tiered")

    class TierMode(models.TextChoices):
        VOLUME = "VOLUME", _("volume: all units at the tier reached")
        SLAB = "SLAB", _("slab: each unit at its own tier")

    class Round(models.TextChoices):
        UP = "up", _("up")
        DOWN = "down", _("down")

    class EntityType(models.TextChoices):
        PLAN = "PLAN", _("plan")
        ADDON = "ADDON", _("add-on")
        SUBSCRIPTION = "SUBSCRIPTION", _("subscription")
        PRICE = "PRICE", _("price")
        COSTSHEET = "COSTSHEET", _("cost sheet")

    class Cadence(models.TextChoices):
        RECURRING = "RECURRING", _("recurring")

    class InvoiceCadence(models.TextChoices):
        ARREAR = "ARREAR", _("in arrear")
        ADVANCE = "ADVANCE", _("in advance")

    id = IdentifierField(max_length=64, primary_key=True, default=new_price_id, editable=False)
    entity_type = models.CharField(max_length=16, choices=EntityType.choices, default=EntityType.PLAN)
    entity_id = IdentifierField(max_length=64)
    parent_price_id = IdentifierField(max_length=64, default="", blank=True)
    type = models.CharField(max_length=16, choices=Type.choices, default=Type.USAGE)
    meter = models.ForeignKey(Meter, null=True, blank=True, on_delete=models.PROTECT, related_name="prices")
    amount = ExactDecimalField(default=Decimal(0), help_text=_("Of one unit (flat fee), or of one package."))
    currency = models.CharField(max_length=3, default="usd", help_text=_("A code of ISO 4217 in lower case."))
    billing_model = models.CharField(max_length=16, choices=BillingModel.choices, default=BillingModel.FLAT_FEE)
    tier_mode = models.CharField(max_length=16, choices=TierMode.choices, default="", blank=True)
    tiers = JsonTextField(
        null=True,
        blank=True,
        help_text=_('A list of {"up_to": 100, "unit_amount": "0.10", "flat_amount": "2"}; up_to null: open.'),
    )
    divide_by = models.PositiveBigIntegerField(null=True, blank=True, help_text=_("Units in a package."))
    round = models.CharField(
        max_length=4, choices=Round.choices, default="", blank=True, help_text=_("What happens to a package begun.")
    )
    billing_period = models.CharField(max_length=16, choices=BillingPeriod.choices, default=BillingPeriod.MONTHLY)
    billing_period_count = models.PositiveIntegerField(default=1)
    billing_cadence = models.CharField(max_length=16, choices=Cadence.choices, default=Cadence.RECURRING)
    invoice_cadence = models.CharField(max_length=16, choices=InvoiceCadence.choices, default=InvoiceCadence.ARREAR)
    display_name = models.CharField(max_length=255, default="", blank=True)
    description = models.TextField(default="", blank=True)
    lookup_key = IdentifierField(max_length=255, default="", blank=True)
    start_date = models.DateTimeField(null=True, blank=True)
    end_date = models.DateTimeField(null=True, blank=True)
    metadata = JsonTextField(default=dict, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PUBLISHED)

    class Meta:
        verbose_name = _("price")
        verbose_name_plural = _("prices")
        constraints = [
            models.CheckConstraint(
                condition=Q(start_date=None) | Q(end_date=None) | Q(end_date__gte=F("start_date")), name="flexmeter_price_dates"
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "entity_type", "entity_id"], name="flexmeter_price_entity"),
            models.Index(fields=["environment", "meter"], name="flexmeter_price_meter"),
            models.Index(fields=["environment", "lookup_key"], name="flexmeter_price_key"),
            models.Index(fields=["environment", "created_at", "id"], name="flexmeter_price_created"),
        ]

    def __str__(self) -> str:
        return str(self.display_name or self.id)

    def rate(self) -> Rate:
        """This price as a pure rule."""
        if self.billing_model == self.BillingModel.FLAT_FEE:
            return FlatFee(self.amount)
        if self.billing_model == self.BillingModel.PACKAGE:
            return Package(self.amount, Decimal(self.divide_by or 0), PackageRounding(self.round or self.Round.UP))
        tiers = tuple(
            Tier(
                None if tier.get("up_to") is None else Decimal(tier["up_to"]),
                Decimal(tier.get("unit_amount") or 0),
                Decimal(tier.get("flat_amount") or 0),
            )
            for tier in self.tiers or ()
        )
        return Slab(tiers) if self.tier_mode == self.TierMode.SLAB else Volume(tiers)


class Subscription(Record):
    """A customer's use of a plan. One that names a `parent` inherits from it: its usage can be counted along with it."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("active")
        TRIALING = "trialing", _("trialing")
        PAUSED = "paused", _("paused")
        CANCELLED = "cancelled", _("cancelled")
        DRAFT = "draft", _("draft")
        INCOMPLETE = "incomplete", _("incomplete")

    id = IdentifierField(max_length=64, primary_key=True, default=new_subscription_id, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="subscriptions")
    plan = models.ForeignKey(Plan, null=True, blank=True, on_delete=models.PROTECT, related_name="subscriptions")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="inherited")
    status = models.CharField(max_length=32, choices=Status.choices, default=Status.ACTIVE)
    currency = models.CharField(max_length=3, default="usd")
    billing_anchor = models.DateTimeField(default=now, help_text=_("Months begin on its day, in the customer's time zone."))
    billing_period = models.CharField(max_length=16, choices=BillingPeriod.choices, default=BillingPeriod.MONTHLY)
    billing_period_count = models.PositiveIntegerField(default=1)
    start_date = models.DateTimeField(default=now)
    end_date = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True, help_text=_("From then on nothing is charged."))
    metadata = JsonTextField(default=dict, blank=True)

    class Meta:
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")
        constraints = [
            models.CheckConstraint(
                condition=Q(end_date=None) | Q(end_date__gte=F("start_date")), name="flexmeter_subscription_dates"
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "customer"], name="flexmeter_subs_customer"),
            models.Index(fields=["environment", "parent"], name="flexmeter_subs_parent"),
            models.Index(fields=["environment", "plan"], name="flexmeter_subs_plan"),
            models.Index(fields=["environment", "created_at", "id"], name="flexmeter_subs_created"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class LineItem(Record):
    """A price that applies to a subscription in [start_date, end_date), with what was committed to, if anything."""

    class CommitmentKind(models.TextChoices):
        AMOUNT = "amount", _("an amount")
        QUANTITY = "quantity", _("a quantity")

    id = IdentifierField(max_length=64, primary_key=True, default=new_line_item_id, editable=False)
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="line_items")
    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="line_items")
    meter = models.ForeignKey(Meter, null=True, blank=True, on_delete=models.PROTECT, related_name="line_items")
    display_name = models.CharField(max_length=255, default="", blank=True)
    quantity = ExactDecimalField(default=Decimal(1), help_text=_("Of a fixed fee."))
    start_date = models.DateTimeField(default=now)
    end_date = models.DateTimeField(null=True, blank=True)
    commitment_type = models.CharField(max_length=16, choices=CommitmentKind.choices, default="", blank=True)
    commitment_amount = ExactDecimalField(null=True, blank=True)
    commitment_quantity = ExactDecimalField(null=True, blank=True)
    commitment_overage_factor = ExactDecimalField(null=True, blank=True)
    commitment_true_up_enabled = models.BooleanField(default=False)
    commitment_windowed = models.BooleanField(default=False, help_text=_("For every bucket of a bucketed meter by itself."))
    commitment_duration = models.CharField(max_length=16, choices=BillingPeriod.choices, default="", blank=True)
    metadata = JsonTextField(default=dict, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PUBLISHED)

    class Meta:
        verbose_name = _("line item")
        verbose_name_plural = _("line items")
        constraints = [
            models.CheckConstraint(
                condition=Q(end_date=None) | Q(end_date__gte=F("start_date")), name="flexmeter_lineitem_dates"
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "subscription"], name="flexmeter_item_subscription"),
            models.Index(fields=["environment", "price"], name="flexmeter_item_price"),
        ]

    def __str__(self) -> str:
        return str(self.display_name or self.id)

    def commitment(self) -> Commitment | None:
        """What was committed to, as a pure rule."""
        value = self.commitment_amount if self.commitment_type == self.CommitmentKind.AMOUNT else self.commitment_quantity
        if not self.commitment_type or value is None:
            return None
        return Commitment(
            CommitmentType(self.commitment_type),
            value,
            Decimal(1) if self.commitment_overage_factor is None else self.commitment_overage_factor,
            self.commitment_true_up_enabled,
            self.commitment_windowed,
        )


class Coupon(Record):
    """A reduction. Only percentages that are `repeated` or `forever` bear on what usage is shown to cost."""

    class Type(models.TextChoices):
        PERCENTAGE = "percentage", _("percentage")
        FIXED = "fixed", _("fixed")

    class Cadence(models.TextChoices):
        ONCE = "once", _("once")
        REPEATED = "repeated", _("repeated")
        FOREVER = "forever", _("forever")

    id = IdentifierField(max_length=64, primary_key=True, default=new_coupon_id, editable=False)
    name = models.CharField(max_length=255)
    type = models.CharField(max_length=16, choices=Type.choices, default=Type.PERCENTAGE)
    cadence = models.CharField(max_length=16, choices=Cadence.choices, default=Cadence.FOREVER)
    percentage_off = ExactDecimalField(null=True, blank=True, help_text=_("From 0 to 100."))
    amount_off = ExactDecimalField(null=True, blank=True)
    currency = models.CharField(max_length=3, default="", blank=True)
    metadata = JsonTextField(default=dict, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PUBLISHED)

    class Meta:
        verbose_name = _("coupon")
        verbose_name_plural = _("coupons")
        indexes = [models.Index(fields=["environment", "created_at", "id"], name="flexmeter_coupon_created")]

    def __str__(self) -> str:
        return str(self.name)


class CouponAssociation(Record):
    """A coupon that applies in [start_date, end_date) to a subscription, or to one line item of it."""

    id = IdentifierField(max_length=64, primary_key=True, default=new_coupon_association_id, editable=False)
    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="associations")
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="coupons")
    line_item = models.ForeignKey(LineItem, null=True, blank=True, on_delete=models.CASCADE, related_name="coupons")
    start_date = models.DateTimeField(default=now)
    end_date = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("applied coupon")
        verbose_name_plural = _("applied coupons")
        constraints = [
            models.CheckConstraint(condition=Q(end_date=None) | Q(end_date__gte=F("start_date")), name="flexmeter_coupon_dates"),
        ]
        indexes = [models.Index(fields=["environment", "subscription"], name="flexmeter_coupon_subscription")]

    def __str__(self) -> str:
        return str(self.id)

    def percentage(self) -> PercentageOff | None:
        """What it takes off usage, or None for a coupon that does not bear on it."""
        coupon = self.coupon
        if coupon.type != Coupon.Type.PERCENTAGE or coupon.cadence == Coupon.Cadence.ONCE or coupon.percentage_off is None:
            return None
        return PercentageOff(coupon.percentage_off, self.start_date, self.end_date)
