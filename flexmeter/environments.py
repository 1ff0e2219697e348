"""Which environments there are."""

from __future__ import annotations

from flexmeter.conf import conf
from flexmeter.models import ApiKey, Environment, Event, Meter
from flexmeter.stores.database.distinct import environments_of_events
from flexmeter.stores.database.transactions import read_alias

LISTED = 100


def known_environments(*, using: str | None = None) -> list[str]:
    """Names of environments that something belongs to, in order; not more than LISTED."""
    alias = using or read_alias()
    rows = Environment.objects.using(alias).values_list("name", flat=True).order_by()
    keys = ApiKey.objects.using(alias).values_list("environment", flat=True).order_by()
    meters = Meter.objects.using(alias).values_list("environment", flat=True).order_by()
    named = rows.union(keys, meters).order_by("name")[:LISTED]
    return sorted({*named, *environments_of_events(alias, limit=LISTED)})[:LISTED]


def is_known(environment: str, *, using: str | None = None) -> bool:
    """Whether anything belongs to an environment."""
    alias = using or read_alias()
    columns = ((Event, "environment"), (ApiKey, "environment"), (Meter, "environment"), (Environment, "name"))
    return any(model._default_manager.using(alias).filter(**{column: environment}).exists() for model, column in columns)


def default_environment(known: list[str], *, using: str | None = None) -> str:
    """The environment to begin with: that of the settings, unless only others among those known hold events."""
    events = Event.objects.using(using or read_alias())
    if conf.ENVIRONMENT in known and (len(known) == 1 or events.in_environment(conf.ENVIRONMENT).exists()):
        return conf.ENVIRONMENT
    holding = environments_of_events(events.db, limit=1)
    return holding[0] if holding else conf.ENVIRONMENT
