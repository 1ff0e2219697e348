"""Rejected events: why each could not be counted, tried again, put right by hand, or discarded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from flexmeter import properties, rejections
from flexmeter.admin.base import FlexmeterAdmin, admin_url, page
from flexmeter.admin.filters import ExactText, FilterForm, Instant
from flexmeter.admin.json_text import PrettyJson, pretty
from flexmeter.admin.text import moment, shown, titled
from flexmeter.events import format_timestamp
from flexmeter.exceptions import EnvironmentBusy, FlexmeterError, InvalidEvent
from flexmeter.ingest import Ingested
from flexmeter.models import Event, RejectedEvent

REASONS = ("conflict", "error", "invalid", "pruned", "required", "too_large", "too_long", "type")
"""Offered while somebody types; others may occur."""
LOOKED_AT_FOR_ENVIRONMENTS = 500
MOST_AT_ONCE = 500
SECONDS_AT_ONCE = 10.0
NAMED_AT_ONCE = 20
DETAIL_CHARACTERS = 160
TEXT_CHARACTERS = 20_000
EDITABLE_BYTES = 2_000_000
"""A larger body, sent with a form, would exceed what Django takes of one as it is shipped."""
VALUE_CHARACTERS = 200


class RejectedFilters(FilterForm):
    reason = ExactText(label=_("Reason"), max_length=64)
    event_id = ExactText(label=_("Event id"))
    start = Instant(label=_("Rejected from"))
    end = Instant(label=_("Rejected before"))

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data)
        self.suggest("reason", REASONS)
        # An environment may be known by nothing but what was rejected in it: without one named, begin where something was.
        newest = RejectedEvent.objects.order_by("-id").values_list("environment", flat=True)[:LOOKED_AT_FOR_ENVIRONMENTS]
        rejecting = list(dict.fromkeys(newest))
        if not data.get("environment") and rejecting and self.chosen_environment not in rejecting:
            self.data = data.copy()
            self.data["environment"] = rejecting[0]
        widget = self.fields["environment"].widget
        if isinstance(widget, forms.Select):
            names = sorted({*(name for name, _label in widget.choices), *rejecting})
            widget.choices = [(name, titled(name)) for name in names]

    def clean(self) -> None:
        start, end = self.cleaned_data.get("start"), self.cleaned_data.get("end")
        if start and end and end <= start:
            self.add_error("end", _("The end must lie after the start."))


class Correction(forms.Form):
    """The body of a rejected event as a person puts it right; valid where an event could be made of it."""

    body = forms.CharField(
        label=_("The event as JSON"),
        strip=False,
        widget=forms.Textarea(attrs={"rows": 24, "spellcheck": "false", "autocomplete": "off", "dir": "ltr", "class": "fm-code"}),
    )

    def __init__(self, row: RejectedEvent, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.row = row

    def clean_body(self) -> Any:
        """The decoded members."""
        try:
            members = properties.loads(self.cleaned_data["body"])
        except properties.InvalidJson as error:
            raise forms.ValidationError(_("This is not JSON that can be stored: %(reason)s."), params={"reason": error}) from None
        try:
            rejections.corrected(self.row, members)
        except InvalidEvent as error:
            raise forms.ValidationError(_("This is no event: %(reason)s."), params={"reason": error}) from None
        return members


@admin.register(RejectedEvent)
class RejectedEventAdmin(FlexmeterAdmin):
    list_display = ["rejected", "why", "identity", "environment_name", "said", "tries", "accepted"]
    list_display_links = ["rejected", "identity"]
    ordering = ["-rejected_at", "-id"]
    filter_form = RejectedFilters
    actions = ["retry_selected", "discard_selected"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a body is corrected on a page of its own

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def narrowed(self, request: HttpRequest, rows: QuerySet, filters: FilterForm) -> QuerySet:
        wanted = filters.cleaned_data
        conditions = {
            "environment": wanted["environment"],
            "reason": wanted["reason"],
            "event_id": wanted["event_id"],
            "rejected_at__gte": wanted["start"],
            "rejected_at__lt": wanted["end"],
        }
        return rows.filter(**{name: value for name, value in conditions.items() if value}).defer("body", "traceback")

    @admin.display(description=_("Rejected"), ordering="rejected_at")
    def rejected(self, row: RejectedEvent) -> SafeString:
        return moment(row.rejected_at)

    @admin.display(description=_("Reason"))
    def why(self, row: RejectedEvent) -> SafeString:
        return shown(row.reason)

    @admin.display(description=_("Event id"))
    def identity(self, row: RejectedEvent) -> SafeString | str:
        return shown(row.event_id) if row.event_id else gettext("(none)")

    @admin.display(description=_("Environment"))
    def environment_name(self, row: RejectedEvent) -> SafeString:
        return shown(row.environment)

    @admin.display(description=_("Detail"))
    def said(self, row: RejectedEvent) -> SafeString:
        return shown(Truncator(row.detail).chars(DETAIL_CHARACTERS))

    @admin.display(description=_("Attempts"), ordering="attempts")
    def tries(self, row: RejectedEvent) -> str:
        return f"{row.attempts:,}"

    @admin.display(description=_("Accepted"))
    def accepted(self, row: RejectedEvent) -> SafeString:
        return moment(row.accepted_at)

    @admin.action(description=_("Try to count the selected events again"), permissions=["act"])
    def retry_selected(self, request: HttpRequest, rows: QuerySet) -> None:
        """Try them one by one, within a bounded time."""
        started = time.monotonic()
        counted, failed = 0, Counter[str]()
        tried = 0
        chosen = list(rows.order_by("id")[: MOST_AT_ONCE + 1])
        for row in chosen[:MOST_AT_ONCE]:
            if time.monotonic() - started > SECONDS_AT_ONCE:
                break
            outcome = self._retry(request, row)
            if outcome is None:
                break
            tried += 1
            if outcome:
                counted += 1
            else:
                failed[self._reason_now(row)] += 1
        if counted:
            told = ngettext("%(count)s event counts now.", "%(count)s events count now.", counted) % {"count": f"{counted:,}"}
            self.message_user(request, told, messages.SUCCESS)
        if failed:
            reasons = ", ".join(f"{titled(reason)} {number:,}" for reason, number in sorted(failed.items()))
            told = ngettext(
                "%(count)s event is still rejected: %(reasons)s.",
                "%(count)s events are still rejected: %(reasons)s.",
                failed.total(),
            )
            self.message_user(request, told % {"count": f"{failed.total():,}", "reasons": reasons}, messages.WARNING)
        if tried < len(chosen):
            left = _("Not all were tried. Do it again for the rest, or run: manage.py flexmeter_rejected retry --all")
            self.message_user(request, left, messages.WARNING)

    @admin.action(description=_("Discard the selected events"), permissions=["delete"])
    def discard_selected(self, request: HttpRequest, rows: QuerySet) -> HttpResponse | None:
        """Ask whether they really should go for good, then let them."""
        chosen = list(rows.order_by("id").defer("body", "traceback")[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            told = _("No more than %(count)s events can be discarded at once. Nothing was discarded.") % {"count": MOST_AT_ONCE}
            self.message_user(request, told, messages.ERROR)
            return None
        if request.POST.get("confirmed") != "yes":
            context = {
                "rows": chosen[:NAMED_AT_ONCE],
                "others": max(len(chosen) - NAMED_AT_ONCE, 0),
                "ids": [row.pk for row in chosen],
                "checkbox": ACTION_CHECKBOX_NAME,
                "action": "discard_selected",
                "back": request.get_full_path(),
            }
            title = ngettext("Discard %(count)s event?", "Discard %(count)s events?", len(chosen)) % {"count": len(chosen)}
            return self.render(request, "admin/flexmeter/rejected/discard.html", context, title=title)
        for row in chosen:
            self._discard(request, row)
        told = ngettext("%(count)s event was discarded.", "%(count)s events were discarded.", len(chosen))
        self.message_user(request, told % {"count": f"{len(chosen):,}"}, messages.SUCCESS)
        return None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return self.missing(request, object_id)
        context = {
            "row": row,
            "body": pretty(row.body),
            "detail": _beginning(row.detail),
            "traceback": _beginning(row.traceback),
            "event_url": _event_url(row, self.admin_site.name) if row.event_id else "",
            "has_delete_permission": self.has_delete_permission(request, row),
        }
        title = _("Rejected event {event_id}").format(event_id=titled(row.event_id))
        return self.render(request, "admin/flexmeter/rejected/row.html", context, title=title, obj=row)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Mapping[str, Any] | None = None) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        if not self.has_delete_permission(request, row):
            raise PermissionDenied
        if row is None:
            return self.missing(request, object_id)
        if request.method != "POST":
            context = {"rows": [row], "back": self.page_url("change", row.pk)}
            return self.render(request, "admin/flexmeter/rejected/discard.html", context, title=_("Discard the event?"), obj=row)
        self._discard(request, row)
        self.message_user(request, _("The event was discarded."), messages.SUCCESS)
        return redirect(self.page_url("changelist", query={"environment": row.environment}))

    @page("<path:object_id>/body/", name="body")
    def body(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The body as a file of JSON, whole and exact."""
        row = self._row(request, object_id)
        response = HttpResponse(properties.dumps(row.body), content_type="application/json")
        response["Content-Disposition"] = 'attachment; filename="rejected_event.json"'
        response["X-Content-Type-Options"] = "nosniff"
        return response

    @page("<path:object_id>/retry/", name="retry", need="act")
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._row(request, object_id)
        if request.method != "POST":
            return redirect(self.page_url("change", row.pk))
        outcome = self._retry(request, row)
        if outcome:
            self.message_user(request, _("The event counts now."), messages.SUCCESS)
            return redirect(self.page_url("changelist", query={"environment": row.environment}))
        if outcome is False:
            told = _("It is still rejected: {reason}.").format(reason=titled(self._reason_now(row)))
            self.message_user(request, told, messages.WARNING)
        return redirect(self.page_url("change", row.pk))

    @page("<path:object_id>/correct/", name="correct", need="act")
    def correct(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A form with the body, to put right what is wrong with it and count it."""
        row = self._row(request, object_id)
        editable = _editable(row.body)
        if editable is None:
            self.message_user(
                request, _("This body is too large for a form. Send the event again, with the same id."), messages.ERROR
            )
            return redirect(self.page_url("change", row.pk))
        form = Correction(row, request.POST) if request.method == "POST" else Correction(row, initial={"body": editable})
        if request.method == "POST" and form.is_valid():
            try:
                outcome = rejections.correct(row.pk, form.cleaned_data["body"])
            except FlexmeterError as error:
                form.add_error(None, str(error))
            except (DatabaseError, InterfaceError):
                form.add_error(None, _("The database did not answer in time; nothing was changed. Try again."))
            else:
                self.record(request, row, _change_told(row, form.cleaned_data["body"]))
                self.message_user(request, _outcome_told(outcome), messages.SUCCESS)
                return redirect(self.page_url("changelist", query={"environment": row.environment}))
        context = {"row": row, "form": form}
        title = _("Correct event {event_id}").format(event_id=titled(row.event_id))
        return self.render(request, "admin/flexmeter/rejected/correct.html", context, title=title, obj=row)

    def _row(self, request: HttpRequest, object_id: str) -> RejectedEvent:
        row: RejectedEvent | None = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        return row

    def _retry(self, request: HttpRequest, row: RejectedEvent) -> bool | None:
        """Whether it counts now; None where the database could not say, which is told."""
        try:
            counts = rejections.retry(row.pk)
        except EnvironmentBusy as error:
            self.message_user(request, str(error), messages.ERROR)
            return None
        except (DatabaseError, InterfaceError):
            self.message_user(request, _("The database did not answer in time; nothing was changed. Try again."), messages.ERROR)
            return None
        outcome = (
            gettext("it counts now") if counts else gettext("still rejected, %(reason)s") % {"reason": self._reason_now(row)}
        )
        self.record(request, row, gettext("Tried again: %(outcome)s.") % {"outcome": outcome})
        return counts

    def _reason_now(self, row: RejectedEvent) -> str:
        reasons = RejectedEvent.objects.filter(pk=row.pk).values_list("reason", flat=True)
        return next(iter(reasons), gettext("it is there no more"))

    def _discard(self, request: HttpRequest, row: RejectedEvent) -> None:
        told = gettext("Discarded for good: %(reason)s, accepted %(accepted)s.")
        with transaction.atomic(using=row._state.db):
            self.record_deletion(request, row, told % {"reason": row.reason, "accepted": format_timestamp(row.accepted_at)})
            row.delete()


def _beginning(text: str) -> PrettyJson:
    return PrettyJson(text[:TEXT_CHARACTERS], len(text) > TEXT_CHARACTERS)


def _event_url(row: RejectedEvent, site: str) -> str:
    return admin_url(Event, "lookup", query={"environment": row.environment, "event_id": row.event_id}, site=site)


def _editable(body: Any) -> str | None:
    """The body as text for a form, without what cannot be changed; None where it is too large for one."""
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "accepted_at"}
    text, is_cut = pretty(body, EDITABLE_BYTES)
    # A form sends two characters for the end of a line.
    return None if is_cut or len(text.encode("utf-8")) + text.count("\n") > EDITABLE_BYTES else text


def _change_told(row: RejectedEvent, members: Mapping[str, Any]) -> str:
    """What a person changed, for the log: each member that differs, as it was and as it is."""
    before = row.body if isinstance(row.body, dict) else {"": row.body}
    names = dict.fromkeys([*before, *members])
    changed = [name for name in names if name != "accepted_at" and not properties.same(before.get(name), members.get(name))]
    told = [f"{name}: {_short(before, name)} -> {_short(members, name)}" for name in changed]
    return gettext("Corrected by hand and counted. Changed: %(changes)s") % {"changes": "; ".join(told) or gettext("nothing")}


def _short(members: Mapping[str, Any], name: str) -> str:
    return pretty(members[name], VALUE_CHARACTERS).text if name in members else gettext("(none)")


def _outcome_told(outcome: Ingested) -> SafeString:
    if outcome.replaced:
        told = _("The corrected event counts now, in place of the values that were stored under its id.")
    elif outcome.repeated:
        told = _("An event of this id that was accepted later is stored already; its values stand. Nothing is rejected any more.")
    else:
        told = _("The corrected event counts now.")
    return format_html("{}", told)
