"""API keys: made, with the secret shown once, and revoked. None is edited or deleted, so that history stays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from flexmeter.admin.base import FlexmeterAdmin, page
from flexmeter.admin.filters import ExactText, FilterForm, Instant
from flexmeter.admin.text import moment, shown, titled
from flexmeter.environments import default_environment, known_environments
from flexmeter.keys import (
    MAX_ENVIRONMENT_LENGTH,
    MAX_NAME_LENGTH,
    KeyState,
    create_key,
    environment_fault,
    name_fault,
    revoke_key,
    state_of,
)
from flexmeter.models import ApiKey, now

MOST_AT_ONCE = 500
SCOPES = [
    (ApiKey.Scope.INGEST, _("ingest: send events")),
    (ApiKey.Scope.READ, _("read: ask for events and usage")),
    (ApiKey.Scope.ADMIN, _("admin: change meters")),
]
STATES = {KeyState.USABLE: _("usable"), KeyState.REVOKED: _("revoked"), KeyState.EXPIRED: _("expired")}


class KeyFilters(FilterForm):
    """Unlike other lists this one may be of all environments: there are few keys."""

    key = ExactText(label=_("Prefix, or a name’s beginning"))
    state = forms.ChoiceField(label=_("State"), required=False, choices=[("", _("Any")), *STATES.items()])

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data)
        if not data.get("environment"):
            self.data = data
        widget = self.fields["environment"].widget
        if isinstance(widget, forms.Select):
            widget.choices = [("", _("Any")), *widget.choices]


class NewKeyForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=MAX_NAME_LENGTH,
        strip=False,
        help_text=_("What the key is for, or who holds it."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    environment = forms.CharField(
        label=_("Environment"),
        max_length=MAX_ENVIRONMENT_LENGTH,
        strip=False,
        help_text=_("The key sees nothing of any other. A new name makes a new environment."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "list": "id_environment_suggestions"}),
    )
    scopes = forms.MultipleChoiceField(
        label=_("Scopes"), choices=SCOPES, widget=forms.CheckboxSelectMultiple, help_text=_("What the key may do.")
    )
    expires_at = Instant(label=_("Expires"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.suggested_environments = known_environments()
        self.fields["environment"].initial = default_environment(self.suggested_environments)
        self.fields["expires_at"].help_text = _("When the key stops working. Empty: never.")

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if fault := name_fault(name):
            raise forms.ValidationError(_("The name %(fault)s."), params={"fault": fault})
        return name

    def clean_environment(self) -> str:
        environment: str = self.cleaned_data["environment"]
        if fault := environment_fault(environment):
            raise forms.ValidationError(_("The environment %(fault)s."), params={"fault": fault})
        return environment

    def clean_expires_at(self) -> datetime | None:
        moment: datetime | None = self.cleaned_data["expires_at"]
        if moment is not None and moment <= now():
            raise forms.ValidationError(_("This lies in the past."))
        return moment


@admin.register(ApiKey)
class ApiKeyAdmin(FlexmeterAdmin):
    list_display = ["called", "prefix_shown", "environment_name", "may", "state", "last_used", "expires", "created"]
    list_display_links = ["called"]
    ordering = ["-created_at", "-id"]
    filter_form = KeyFilters
    actions = ["revoke_selected"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def narrowed(self, request: HttpRequest, rows: QuerySet, filters: FilterForm) -> QuerySet:
        wanted, at = filters.cleaned_data, now()
        if wanted["environment"]:
            rows = rows.filter(environment=wanted["environment"])
        if wanted["key"]:
            rows = rows.filter(Q(prefix=wanted["key"]) | Q(name__istartswith=wanted["key"]))
        if wanted["state"] == KeyState.REVOKED:
            return rows.exclude(revoked_at=None)
        if wanted["state"] == KeyState.EXPIRED:
            return rows.filter(revoked_at=None, expires_at__lte=at)
        return rows.filter(pk__in=ApiKey.objects.usable_at(at).values("pk")) if wanted["state"] == KeyState.USABLE else rows

    @admin.display(description=_("Name"), ordering="name")
    def called(self, key: ApiKey) -> SafeString:
        return shown(key.name)

    @admin.display(description=_("Prefix"))
    def prefix_shown(self, key: ApiKey) -> SafeString:
        return format_html('<span class="fm-prefix">{}</span>', key.prefix)

    @admin.display(description=_("Environment"), ordering="environment")
    def environment_name(self, key: ApiKey) -> SafeString:
        return shown(key.environment)

    @admin.display(description=_("Scopes"))
    def may(self, key: ApiKey) -> SafeString:
        return shown(", ".join(key.scopes))

    @admin.display(description=_("State"))
    def state(self, key: ApiKey) -> str:
        return str(STATES[state_of(key, now())])

    @admin.display(description=_("Last used"), ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return moment(key.last_used_at) or gettext("never")

    @admin.display(description=_("Expires"), ordering="expires_at")
    def expires(self, key: ApiKey) -> str:
        return moment(key.expires_at) or gettext("never")

    @admin.display(description=_("Made"), ordering="created_at")
    def created(self, key: ApiKey) -> SafeString:
        return moment(key.created_at)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Mapping[str, Any] | None = None) -> HttpResponse:
        """A form for a new key; the answer to it is the only page that ever shows the secret."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = NewKeyForm(request.POST) if request.method == "POST" else NewKeyForm(initial={"scopes": ["ingest"]})
        if request.method == "POST" and form.is_valid():
            return self._made(request, form)
        return self.render(request, "admin/flexmeter/keys/new.html", {"form": form}, title=_("New API key"))

    @sensitive_variables("secret", "context")
    def _made(self, request: HttpRequest, form: NewKeyForm) -> HttpResponse:
        wanted = form.cleaned_data
        key, secret = create_key(
            wanted["name"], environment=wanted["environment"], scopes=wanted["scopes"], expires_at=wanted["expires_at"]
        )
        told = gettext("Made for environment %(environment)s with scopes %(scopes)s.")
        self.log_addition(request, key, told % {"environment": key.environment, "scopes": ", ".join(key.scopes)})
        context = {"key": key, "secret": secret}
        response = self.render(request, "admin/flexmeter/keys/made.html", context, title=_("The new key’s secret"), obj=key)
        response["Cache-Control"] = "no-store"
        return response

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        key = self.get_object(request, unquote(object_id))
        if key is None:
            return self.missing(request, object_id)
        state = state_of(key, now())
        context = {"key": key, "state": STATES[state], "is_usable": state is KeyState.USABLE, "scopes": ", ".join(key.scopes)}
        return self.render(
            request, "admin/flexmeter/keys/key.html", context, title=_("API key {name}").format(name=titled(key.name)), obj=key
        )

    @page("<path:object_id>/revoke/", name="revoke", need="act")
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask once more, then revoke."""
        key = self.get_object(request, unquote(object_id))
        if key is None:
            raise Http404
        if request.method != "POST":
            context = {"keys": [key], "back": self.page_url("change", key.pk)}
            return self.render(request, "admin/flexmeter/keys/revoke.html", context, title=_("Revoke the key?"), obj=key)
        if self._revoke(request, key):
            self.message_user(request, _("The key is revoked. It opens nothing any more."), messages.SUCCESS)
        else:
            self.message_user(request, _("The key had been revoked before."), messages.INFO)
        return redirect(self.page_url("change", key.pk))

    @admin.action(description=_("Revoke the selected keys"), permissions=["act"])
    def revoke_selected(self, request: HttpRequest, rows: QuerySet) -> HttpResponse | None:
        """Ask once more, then revoke them."""
        keys = list(rows.filter(revoked_at=None).order_by("id")[: MOST_AT_ONCE + 1])
        if not keys or len(keys) > MOST_AT_ONCE:
            wrong = (
                _("These keys are revoked already.") if not keys else _("These are too many keys at once; nothing was revoked.")
            )
            self.message_user(request, wrong, messages.WARNING)
            return None
        if request.POST.get("confirmed") != "yes":
            context = {
                "keys": keys,
                "ids": [key.pk for key in keys],
                "checkbox": ACTION_CHECKBOX_NAME,
                "action": "revoke_selected",
                "back": request.get_full_path(),
            }
            title = ngettext("Revoke %(count)s key?", "Revoke %(count)s keys?", len(keys)) % {"count": len(keys)}
            return self.render(request, "admin/flexmeter/keys/revoke.html", context, title=title)
        revoked = sum(self._revoke(request, key) for key in keys)
        told = ngettext("%(count)s key is revoked.", "%(count)s keys are revoked.", revoked) % {"count": revoked}
        self.message_user(request, told, messages.SUCCESS)
        return None

    def _revoke(self, request: HttpRequest, key: ApiKey) -> bool:
        """Whether it was this that revoked it."""
        if key.revoked_at is not None:
            return False
        revoke_key(key.pk)
        self.record(request, key, gettext("Revoked."))
        return True
