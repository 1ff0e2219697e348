"""A meter's usage: charted, tabled, downloaded, and traced back to its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django import forms
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import format_lazy
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from flexmeter import windows
from flexmeter.admin.base import FlexmeterAdmin, page
from flexmeter.admin.charts import Chart, Datum, bar_chart
from flexmeter.admin.event_page import event_url
from flexmeter.admin.filter_lines import lines_of
from flexmeter.admin.filters import Instant
from flexmeter.admin.text import moment, shown, titled
from flexmeter.admin.usage_files import as_csv, as_json
from flexmeter.admin.usage_form import SIZES, UsageForm, zone_of
from flexmeter.aggregation import DIVISION, AggregationType
from flexmeter.drilldown import ADDITIVE, Account, Bar, EventPage, Peak, Share, account_of, figure_of, page_of
from flexmeter.exceptions import InvalidQuery, PrunedEvents
from flexmeter.models import Meter
from flexmeter.properties import plain, text_fault
from flexmeter.queries import AnalyticsLine, UsageQuery, UsageResult
from flexmeter.stores.database.newest import Place
from flexmeter.stores.database.summaries import customers_with_most, ranks_by_usage
from flexmeter.stores.database.transactions import read_alias
from flexmeter.usage import cell_size, measure, usage
from flexmeter.windows import WindowSize

MOST_BARS = 3_000
TOP_CUSTOMERS = 10
EVENTS_OF_A_PAGE = 100
VALUES_SHOWN = 100
_HOUR_OR_SHORTER = frozenset({WindowSize.MINUTE, WindowSize.FIFTEEN_MINUTES, WindowSize.THIRTY_MINUTES, WindowSize.HOUR})


def figure(value: Decimal) -> str:
    """A figure with all its digits, those before the point in groups of three."""
    text = format(value, ",f") if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


SOURCES = {"rollups": _("rollups"), "events": _("events"), "rollups and events": _("rollups and events")}
"""What an answer was read from."""


class WindowRow(NamedTuple):
    """One window of an answer, and where its events are shown."""

    start: datetime
    end: datetime
    label: str
    figure: str
    events: int
    url: str


class CustomerRow(NamedTuple):
    customer: str
    figure: str
    events: int
    usage_url: str
    events_url: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the usage page shows below its form."""

    chart: Chart
    rows: Sequence[WindowRow]
    total: str
    accumulates: bool
    before: str | None
    events: int
    source: str
    whole_url: str
    customers: Sequence[CustomerRow]
    customers_title: str
    customers_note: str


class UsagePages(FlexmeterAdmin):
    """The pages about a meter's usage; whoever may view meters may see them, and with them events if those too."""

    class Media:
        css = {"all": ["flexmeter/meters.css"]}

    @page("<path:object_id>/usage/", name="usage")
    def usage_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        meter = self.live_meter(object_id)
        with timezone.override(zone_of(request.GET)[1]):
            form = UsageForm(request.GET, meter)
            answer = self._answered(request, form) if form.is_valid() else None
            quick = [(told, self._url("usage", meter, given)) for told, given in form.quick_ranges()]
            downloads = {}
            if form.is_bound and not form.errors.keys() - {"window", "__all__"}:
                downloads = {kind: self._url("usage_download", meter, form.parameters(format=kind)) for kind in ("csv", "json")}
            context = {"meter": meter, "form": form, "answer": answer, "quick": quick, "downloads": downloads}
            context["rebuild_url"] = self._url("rebuild", meter)
            context["bucket_size"] = SIZES[WindowSize(meter.bucket_size)] if meter.bucket_size else ""
            title = gettext("Usage of {meter}").format(meter=titled(meter.name))
            response = self.render(request, "admin/flexmeter/meter/usage.html", context, title=title, obj=meter)
            return response.render()

    @page("<path:object_id>/usage/download/", name="usage_download")
    def download(self, request: HttpRequest, object_id: str) -> HttpResponse:
        meter = self.live_meter(object_id)
        zone_name, zone = zone_of(request.GET)
        with timezone.override(zone):
            form = UsageForm(request.GET, meter)
            if form.is_valid():
                query = form.query()
                try:
                    result = usage(query)
                except InvalidQuery as error:
                    form.add_error(None, error.message)
                else:
                    return _file(meter, query, result, request.GET.get("format", ""), zone_name)
            told = "\n".join(str(message) for messages in form.errors.values() for message in messages)
            return HttpResponse(told, status=400, content_type="text/plain; charset=utf-8")

    @page("<path:object_id>/events/", name="events")
    def events_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not request.user.has_perm("flexmeter.view_event"):
            raise PermissionDenied
        meter = self.live_meter(object_id)
        with timezone.override(zone_of(request.GET)[1]):
            form = UsageForm(request.GET, meter)
            context: dict[str, Any] = {"meter": meter, "form": form, "error": ""}
            if form.is_valid():
                context["usage_url"] = self._url("usage", meter, form.parameters())
                try:
                    context |= self._traced(request, form)
                except (InvalidQuery, forms.ValidationError) as error:
                    context["error"] = error.message
            title = gettext("Events behind {meter}").format(meter=titled(meter.name))
            response = self.render(request, "admin/flexmeter/meter/events.html", context, title=title, obj=meter)
            return response.render()

    def live_meter(self, object_id: str) -> Meter:
        """The meter of an address; a deleted one is not found."""
        meter_id = unquote(object_id)
        meters = Meter.objects.using(read_alias()).exclude(status=Meter.Status.DELETED)
        meter = None if text_fault(meter_id) else meters.filter(pk=meter_id).first()
        if meter is None:
            raise Http404(gettext("There is no such meter."))
        return meter

    def _url(self, name: str, meter: Meter, query: Any = None) -> str:
        return self.page_url(name, quote(meter.pk), query=query)

    def _answered(self, request: HttpRequest, form: UsageForm) -> Answer | None:
        """The answer, or None with what stands against it among the form's errors."""
        query = form.query()
        size = cell_size(query)
        starts = windows.axis(query.start, query.end, size, query.calendar, limit=MOST_BARS + 1) if size else []
        if len(starts) > MOST_BARS:
            told = _(
                "This range has more than {most} windows, too many for a chart. Ask for longer windows or a shorter range, or "
                "download the figures."
            )
            form.add_error("window", format_lazy(told, most=f"{MOST_BARS:,}"))
            return None
        try:
            result = usage(query)
            total, before = result, None
            if query.accumulates:
                total = usage(replace(query, window=None))
                before = figure(result.value) if query.rule.bucket_size is None else None
            customers = self._customers(request, form, query)
        except InvalidQuery as error:
            form.add_error(None, error.message)
            return None
        rows = self._rows(request, form, query, starts, result)
        return Answer(
            self._chart(form, query, rows, result),
            rows,
            figure(total.value),
            query.accumulates,
            before,
            total.event_count,
            str(SOURCES.get(result.source, result.source)),
            self._events_url(request, form),
            *customers,
        )

    def _rows(
        self, request: HttpRequest, form: UsageForm, query: UsageQuery, starts: Sequence[datetime], result: UsageResult
    ) -> list[WindowRow]:
        points = {point.start: point for point in result.points}
        rows = []
        ends = [*starts[1:], query.end]
        shows_hours = cell_size(query) not in (WindowSize.DAY, WindowSize.WEEK, WindowSize.MONTH)
        for start, end in zip(starts, ends, strict=True):
            point = points.get(start)
            begin, stop = max(start, query.start), min(end, query.end)
            rows.append(
                WindowRow(
                    begin,
                    stop,
                    _when(begin, hours=shows_hours or begin != start),
                    figure(point.value if point else Decimal(0)),
                    point.event_count if point else 0,
                    self._events_url(request, form, at=start.isoformat()),
                )
            )
        return rows

    def _chart(self, form: UsageForm, query: UsageQuery, rows: Sequence[WindowRow], result: UsageResult) -> Chart:
        values = {max(point.start, query.start): point.value for point in result.points}
        short = query.end - query.start <= timedelta(days=1)
        data = []
        for row in rows:
            value = values.get(row.start, Decimal(0))
            events = ngettext("{count} event", "{count} events", row.events).format(count=f"{row.events:,}")
            label = f"{row.label}: {row.figure} ({events})"
            data.append(Datum(value, label, _tick(row.start, cell_size(query), query, short=short), row.url))
        size = cell_size(query)
        described = gettext("{count} windows of {size} from {start} to {end} ({zone}). Each bar leads to its events.").format(
            count=len(rows),
            size=SIZES[size] if size else "",
            start=_when(query.start, hours=True),
            end=_when(query.end, hours=True),
            zone=form.cleaned_data["timezone"],
        )
        title = gettext("Usage of {meter}").format(meter=titled(form.meter.name))
        return bar_chart(data, title=title, description=described)

    def _customers(self, request: HttpRequest, form: UsageForm, query: UsageQuery) -> tuple[Sequence[CustomerRow], str, str]:
        """The customers with most usage, and what to say of the list."""
        title = gettext("Customers with most usage") if ranks_by_usage(query.rule) else gettext("Customers with most events")
        if query.scope.external_customer_id is not None or query.scope.filters:
            return [], "", ""
        if not form.meter.rollups_ready:
            return [], title, gettext("They are listed once the meter's past events are counted.")
        start = None if query.accumulates else query.start
        scope = query.scope
        names = customers_with_most(query.rule, scope.environment, start, query.end, limit=TOP_CUSTOMERS, alias=read_alias())
        used = [(name, *each) for name, each in zip(names, _usage_of_customers(query, names), strict=True)]
        if ranks_by_usage(query.rule):
            used.sort(key=lambda each: each[1], reverse=True)
        rows = [
            CustomerRow(
                name,
                figure(value),
                events,
                self._url("usage", form.meter, form.parameters(customer=name)),
                self._events_url(request, form, customer=name),
            )
            for name, value, events in used
        ]
        return rows, title, "" if rows else gettext("Nobody used anything.")

    def _events_url(self, request: HttpRequest, form: UsageForm, **changed: str) -> str:
        """Where the events of a figure are listed; "" for who may not see events."""
        if not request.user.has_perm("flexmeter.view_event"):
            return ""
        return self._url("events", form.meter, form.parameters(**changed))

    def _traced(self, request: HttpRequest, form: UsageForm) -> dict[str, Any]:
        """What the page of a bar's events shows. Raises InvalidQuery and ValidationError for an address of no bar."""
        query = form.query()
        at = Instant(label="").to_python(request.GET.get("at"))
        bar = Bar(query, at)
        after = _place(request.GET.get("after", ""))
        context: dict[str, Any] = {"bar": bar, "start": bar.start, "end": bar.end, "is_window": at is not None}
        context["figure"] = figure(figure_of(bar))
        try:
            found = page_of(bar, size=EVENTS_OF_A_PAGE, after=after)
            account = account_of(bar) if after is None else None
        except PrunedEvents as error:
            return context | {"error": error.message}
        here = {"at": request.GET.get("at", "")}
        links = _Links(self, request, form, here)
        if account is not None:
            context["account"] = account
            context["sentences"] = list(_sentences(bar, account, found))
            context["peaks"] = [links.peak(peak, bar) for peak in account.peaks[:VALUES_SHOWN]]
            context["values"] = sorted(account.values.items(), key=lambda item: (-item[1], item[0]))[:VALUES_SHOWN]
            context["more"] = max(len(account.peaks), len(account.values)) - VALUES_SHOWN
        context["shares"] = [links.share(share, bar) for share in found.shares]
        context["page_amount"] = figure(found.amount) if bar.query.rule.type in ADDITIVE else ""
        if found.after is not None:
            place = f"{found.after.timestamp.isoformat()}/{found.after.event_id}"
            context["next_url"] = self._events_url(request, form, **here, after=place)
        if after is not None:
            context["first_url"] = self._events_url(request, form, **here)
        return context


def _usage_of_customers(query: UsageQuery, names: Sequence[str]) -> list[tuple[Decimal, int]]:
    """Usage and number of events of each customer in the whole range."""
    scopes = [replace(query.scope, external_customer_id=name) for name in names]
    if query.accumulates:
        results = [usage(replace(query, scope=scope, window=None)) for scope in scopes]
        return [(result.value, result.event_count) for result in results]
    lines = [AnalyticsLine(query.rule, query.start, query.end, query.calendar, frozenset({name})) for name in names]
    answers = measure(lines, query.scope)
    return [(items[0].total, items[0].event_count) if items else (Decimal(0), 0) for items in answers]


class ShareRow(NamedTuple):
    share: Share
    number: str
    weight: str
    amount: str
    event_url: str
    customer_url: str


class PeakRow(NamedTuple):
    peak: Peak
    number: str
    event_url: str
    bucket_url: str
    group_url: str


@dataclass(frozen=True, slots=True)
class _Links:
    """Makes the links of the rows on a page of events."""

    pages: UsagePages
    request: HttpRequest
    form: UsageForm
    here: dict[str, str]

    def share(self, share: Share, bar: Bar) -> ShareRow:
        customer = share.event.external_customer_id
        return ShareRow(
            share,
            figure(share.number) if share.counts else gettext("no value"),
            "" if share.weight is None else f"{share.weight:.6f}",
            figure(_shortened(share.amount)),
            self._event(share),
            "" if bar.query.scope.external_customer_id else self._page(**self.here, customer=customer),
        )

    def peak(self, peak: Peak, bar: Bar) -> PeakRow:
        rule = bar.query.rule
        bucket = "" if peak.bucket is None or peak.bucket == bar.window_start else self._page(at=peak.bucket.isoformat())
        filters = [(key, tuple(values)) for key, values in self.form.cleaned_data["filters"]]
        group = ""
        if rule.group_by and rule.group_by not in dict(filters):
            group = self._page(**self.here, filters=lines_of([*filters, (rule.group_by, (peak.share.group,))]))
        return PeakRow(peak, figure(peak.share.number), self._event(peak.share), bucket, group)

    def _event(self, share: Share) -> str:
        return event_url(self.form.meter.environment, share.event.event_id, site=self.pages.admin_site.name)

    def _page(self, **changed: str) -> str:
        return self.pages._events_url(self.request, self.form, **changed)


def _sentences(bar: Bar, account: Account, found: EventPage) -> Any:
    """How the figure comes from the events, in words."""
    rule, events = bar.query.rule, f"{account.events:,}"
    if not account.complete:
        yield _(
            "There are too many events to go through them all here. Choose a customer or a shorter window to see how the figure "
            "comes about; the newest events are listed below."
        )
        return
    if not account.events:
        yield _("No event counts here.")
        return
    if rule.type is AggregationType.COUNT:
        yield _plural("{count} event, counted as 1.", "{count} events, each counted as 1.", account.events)
    elif rule.type in (AggregationType.SUM, AggregationType.SUM_WITH_MULTIPLIER):
        text = _plural("What {count} event contributes", "The sum of what {count} events contribute", account.events)
        times = gettext(", each its number times {multiplier}").format(multiplier=plain(rule.multiplier))
        yield f"{text}{times if rule.multiplier != 1 else ''}: {figure(account.amount)}."
    elif rule.type is AggregationType.WEIGHTED_SUM:
        yield _("Each event counts with its weight: the part of the range asked for that was left when it happened.")
        yield _plural(
            "What {count} event contributes: {amount}.", "The sum of what {count} events contribute: {amount}.",
            account.events, amount=figure(_shortened(account.amount)),
        )  # fmt: skip
    elif rule.type is AggregationType.AVG:
        yield gettext("{total} ÷ {count} events = {average}").format(
            total=figure(account.amount), count=events, average=figure(account.figure)
        )
    elif rule.type is AggregationType.COUNT_UNIQUE:
        yield (
            _plural("{count} distinct value", "{count} distinct values", len(account.values))
            + " "
            + _plural("in {count} event.", "in {count} events.", account.events)
        )
    elif bar.query.rule.bucket_size is not None and len(account.peaks) > 1:
        by = gettext("bucket and group") if rule.group_by else gettext("bucket")
        yield gettext("The sum of the greatest of each {unit}: {count} in all.").format(unit=by, count=f"{len(account.peaks):,}")
    else:
        peak = account.peaks[0].share
        sentence = {
            AggregationType.MAX: _("The greatest of {count} is {number}, of event {event} at {time}."),
            AggregationType.MIN: _("The smallest of {count} is {number}, of event {event} at {time}."),
            AggregationType.LATEST: _("The newest of {count} says {number}: event {event} at {time}."),
        }[rule.type]
        parts = {"number": figure(peak.number), "event": shown(peak.event.event_id), "time": moment(peak.event.timestamp)}
        yield format_html(str(sentence), count=events, **parts)
    if account.amount < 0 and rule.type in ADDITIVE | {AggregationType.AVG}:
        yield _("A figure is never less than 0.")


def _plural(one: str, many: str, count: int, **parts: str) -> str:
    return ngettext(one, many, count).format(count=f"{count:,}", **parts)


def _shortened(value: Decimal) -> Decimal:
    """A quotient's 50 digits cut to what can be read; other numbers keep theirs."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12 and len(value.as_tuple().digits) > 40:
        return value.quantize(Decimal("1e-12"), context=DIVISION) if value.adjusted() < 15 else value
    return value


def _place(text: str) -> Place | None:
    """Where a list has come to. Raises ValidationError for a text that no link of ours holds."""
    if not text:
        return None
    instant, _slash, event_id = text.partition("/")
    timestamp = Instant(label="").to_python(instant)
    if timestamp is None or not event_id or text_fault(event_id):
        raise forms.ValidationError(gettext("The list has no such place; begin with the newest events."))
    return Place(timestamp, event_id)


def _file(meter: Meter, query: UsageQuery, result: UsageResult, kind: str, zone_name: str) -> HttpResponse:
    if kind == "json":
        response = HttpResponse(as_json(meter, query, result, zone_name), content_type="application/json")
    else:
        kind = "csv"
        response = HttpResponse(as_csv(meter, query, result, query.calendar.zone), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="usage-{meter.pk}.{kind}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _when(instant: datetime, *, hours: bool) -> str:
    local = timezone.localtime(instant)
    return f"{local.year:04d}-{local:%m-%d %H:%M}" if hours else f"{local.year:04d}-{local:%m-%d}"


def _tick(instant: datetime, size: WindowSize | None, query: UsageQuery, *, short: bool) -> str:
    local = timezone.localtime(instant)
    if size is WindowSize.MONTH and query.calendar.anchor_day == 1:
        return date_format(local, "M Y")
    if query.end - query.start > timedelta(days=366):
        return date_format(local, "j M Y")
    if size in (WindowSize.DAY, WindowSize.WEEK, WindowSize.MONTH):
        return date_format(local, "j M")
    return date_format(local, "H:i" if short else "j M H:i")
