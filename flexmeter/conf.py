"""Settings: one declaration gives value, default, check and documentation.

Values are read through to `django.conf.settings` on every access, so `override_settings` just works.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from django.conf import settings as django_settings
from django.utils.functional import empty

T = TypeVar("T")


def _behind(lazy: Any) -> Any:
    """What holds the settings now: asked directly for what is not set, it says so in a tenth of the time."""
    held = object.__getattribute__(lazy, "_wrapped")
    return lazy if held is empty else held


@dataclass
class Setting(Generic[T]):
    """A declared setting: `FLEXMETER_` plus the attribute's name in Django's settings module."""

    default: T
    kind: type[Any] | tuple[type[Any], ...]
    help: str
    minimum: float | None = None
    choices: tuple[T, ...] = ()
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = "FLEXMETER_" + name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Setting[T] | T:
        if instance is None:
            return self
        value: T = getattr(_behind(django_settings), self.name, self.default)
        return value

    def accepts(self, value: Any) -> bool:
        """Whether `value` may stand in the settings module."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool):  # True is an int, but no batch size
            return self.kind is bool
        return isinstance(value, self.kind) and (self.minimum is None or value is None or value >= self.minimum)


class Settings:
    """The settings flexmeter reads."""

    INGEST = Setting(
        "inline",
        str,
        "When accepted events are counted: 'inline' before the HTTP answer, and at once after a commit; "
        "'celery' by a worker, from an inbox in the database.",
        choices=("inline", "celery"),
    )
    MAX_WAITING_EVENTS = Setting[int | None](
        None,
        (int, type(None)),
        "Events that may wait in an environment's inbox before HTTP ingestion answers 503; None: no bound but the disk.",
        minimum=1,
    )
    DRAIN_EVENTS = Setting(5_000, int, "Events one drain transaction counts, or one batch if that holds more.", minimum=1)
    ENVIRONMENT = Setting("default", str, "The environment that record() uses when none is named.")
    CUSTOMER_ID = Setting(
        "flexmeter.recording.customer_id_of",
        str,
        "Dotted path of the function that turns what record() is given as customer into an external customer id.",
    )
    OTHER_DATABASE = Setting(
        "error",
        str,
        "record() in a transaction of another database than the events': an 'error', or 'allow' it to commit by itself.",
        choices=("error", "allow"),
    )
    METERED_URLS = Setting(
        (),
        (list, tuple),
        "What MeterMiddleware meters: mappings of 'path' (a regular expression) or 'route' (the name of a URL pattern), "
        "'event_name', and any option of meter_view; the first that matches a request applies.",
    )
    MAX_BULK_EVENTS = Setting(1_000, int, "Most events one bulk request may carry.", minimum=1)
    MAX_BODY_BYTES = Setting(32 * 1024 * 1024, int, "Largest request body, in bytes, also after unpacking.", minimum=1024)
    MAX_PROPERTIES_BYTES = Setting(1024 * 1024, int, "Largest properties object of one event, in bytes of JSON.", minimum=65_536)
    MAX_PAGE_SIZE = Setting(1_000, int, "Most rows of one page of a list; a larger page_size is cut to it.", minimum=1_000)
    MAX_WINDOWS = Setting(50_000, int, "Most windows one answer may hold; a query for more gets a 400.", minimum=1)
    MAX_GROUPS = Setting(10_000, int, "Most groups one analytics answer may hold; a query for more gets a 400.", minimum=1)
    MAX_DIMENSION_GROUPS = Setting(
        1_000,
        int,
        "About how many combinations of its dimensions' values a meter keeps apart for one customer; further ones are counted "
        "together, and questions that would have to tell them apart are answered from events.",
        minimum=0,
    )
    MAX_FILTER_VALUES = Setting(1_000, int, "Most property filter values one query or meter may name.", minimum=1)
    WEEK_STARTS = Setting("monday", str, "First day of WEEK windows.", choices=("monday", "sunday"))
    MONTH_ANCHOR = Setting(
        "clamp",
        str,
        "What a month anchor beyond the month's end does: 'clamp' to the last day, or 'overflow' into the next month.",
        choices=("clamp", "overflow"),
    )
    COUNT_UNIQUE_MISSING = Setting(
        "ignore", str, "What COUNT_UNIQUE does with events that lack the property.", choices=("ignore", "count")
    )
    AGGREGATION_WITHOUT_PROPERTY = Setting(
        "count",
        str,
        "An ad-hoc usage query without property_name: 'count' events, or answer an 'error'.",
        choices=("count", "error"),
    )
    ANALYTICS_REQUIRES_CUSTOMER = Setting(False, bool, "Whether analytics answers 400 when no customer is given.")
    REPEATED_EVENT = Setting(
        "replace",
        str,
        "A repeated event id with other content: 'replace' the stored values, or 'keep' them and record the repeat as rejected.",
        choices=("replace", "keep"),
    )
    REBUILD_INLINE_EVENTS = Setting(
        10_000, int, "A new meter with at most this many past events is filled at once, others by flexmeter_rebuild.", minimum=0
    )
    REBUILD_CHUNK_EVENTS = Setting(5_000, int, "Events a rebuild recounts in one transaction.", minimum=1)
    PRUNE_BATCH_EVENTS = Setting(5_000, int, "Events pruning deletes in one transaction.", minimum=1)
    REQUESTS_PER_MINUTE = Setting(
        None, (int, type(None)), "Requests one API key may make in a minute; None: no limit.", minimum=1
    )
    EVENTS_PER_MINUTE = Setting(None, (int, type(None)), "Events one API key may send in a minute; None: no limit.", minimum=1)
    KEY_REMEMBERED_SECONDS = Setting[float](
        5,
        (int, float),
        "Seconds a process takes an API key without asking the database again: so long a key that another process revokes may "
        "still open; 0: every request asks.",
        minimum=0,
    )
    AUTHENTICATION = Setting(
        "flexmeter.http.authentication.ApiKeyAuthentication",
        str,
        "Dotted path of the DRF authentication class whose `auth` names the environment and scopes.",
    )


def declared() -> Iterator[Setting[Any]]:
    """All declared settings, in the order of their declaration."""
    for attribute in vars(Settings).values():
        if isinstance(attribute, Setting):
            yield attribute


conf = Settings()
