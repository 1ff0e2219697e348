"""Routes of the API."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, re_path

from flexmeter import pricebook
from flexmeter.http import events, meters, usage
from flexmeter.http.base import UnknownAddress
from flexmeter.http.routing import routes

urlpatterns: list[URLPattern | URLResolver] = [
    *routes("events", events.EventsView, "flexmeter-events"),
    *routes("events/bulk", events.BulkView, "flexmeter-events-bulk"),
    *routes("events/query", events.QueryView, "flexmeter-events-query"),
    *routes("events/usage", usage.UsageView, "flexmeter-usage"),
    *routes("events/usage/meter", usage.MeterUsageView, "flexmeter-usage-meter"),
    *routes("events/analytics", usage.AnalyticsView, "flexmeter-analytics"),
    *routes("events/huggingface-inference", usage.InferenceCostView, "flexmeter-inference-cost"),
    *routes("events/huggingface-billing", usage.InferenceCostView, "flexmeter-inference-cost-alias"),
    *routes("events/monitoring", events.MonitoringView, "flexmeter-monitoring"),
    *routes("events/lookup", events.LookupView, "flexmeter-event-lookup"),
    re_path(r"^events/(?P<event_id>(?s:.+))\Z", events.LookupView.as_view(), name="flexmeter-event"),
    *routes("meters", meters.MetersView, "flexmeter-meters"),
    *routes(r"meters/(?P<meter_id>[^/]+)", meters.MeterView, "flexmeter-meter"),
    *routes(r"meters/(?P<meter_id>[^/]+)/disable", meters.DisableMeterView, "flexmeter-meter-disable"),
    *pricebook.current().urlpatterns(),
    re_path(r"", UnknownAddress.as_view()),
]
