"""FlexPrice's own Python clients, unmodified, against a running server: every operation they have, plainly and async."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flexmeter.keys import create_key
from flexmeter.meters import MeterDefinition, create_meter
from flexmeter.models import Meter
from flexmeter.pricing.models import LineItem
from flexmeter.pricing.subscriptions import apply_coupon

from tests.pricing.factories import SLAB, line_item, make_coupon, make_feature, tiered
from tests.requirements import import_required, only_on

pytestmark = [
    pytest.mark.django_db(transaction=True),
    only_on("sqlite", "postgresql"),  # how the API is spoken; what it answers on MariaDB is told by tests/http and tests/pricing
]

old = import_required("flexprice_sdk_test")
new = import_required("flexprice")
old_errors = import_required("flexprice_sdk_test.models.errors")
old_components = import_required("flexprice_sdk_test.models.components")
new_models = import_required("flexprice.models")
new_errors = import_required("flexprice.models.errors")

JUNE = {"start_time": "2025-06-01T00:00:00Z", "end_time": "2025-07-01T00:00:00Z"}
JUNE_DATES = {"start_time": datetime(2025, 6, 1, tzinfo=UTC), "end_time": datetime(2025, 7, 1, tzinfo=UTC)}

Call = Callable[..., Any]


@contextmanager
def calling(sdk: Any, is_async: bool) -> Iterator[Call]:
    """`call(operation, **arguments)` runs an operation of `sdk.events`, or its async twin."""
    if not is_async:
        with sdk:
            yield lambda operation, **arguments: getattr(sdk.events, operation)(**arguments)
        return
    with asyncio.Runner() as runner:
        yield lambda operation, **arguments: runner.run(getattr(sdk.events, operation + "_async")(**arguments))
        runner.run(sdk.__aexit__(None, None, None))


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def secret() -> str:
    return create_key("client", environment="main").secret


@pytest.fixture
def old_client(live_server: Any, secret: str, is_async: bool) -> Iterator[Call]:
    with calling(old_sdk(live_server, secret), is_async) as call:
        yield call


@pytest.fixture
def new_client(live_server: Any, secret: str, is_async: bool) -> Iterator[Call]:
    with calling(new_sdk(live_server, secret), is_async) as call:
        yield call


def old_sdk(live_server: Any, key: str) -> Any:
    """`flexprice_sdk_test`. By default it repeats a 5XX for an hour; here for two seconds."""
    patience = old.utils.RetryConfig("backoff", old.utils.BackoffStrategy(100, 500, 1.5, 2_000), False)
    return old.FlexPrice(server_url=f"{live_server.url}/v1", api_key_auth=key, retry_config=patience)


def new_sdk(live_server: Any, key: str) -> Any:
    return new.Flexprice(server_url=f"{live_server.url}/v1", api_key_auth=key)


@pytest.fixture
def meter() -> Meter:
    return create_meter(MeterDefinition("Request size", "api_request", "SUM", "request_size"), environment="main")


@pytest.fixture
def priced(meter: Meter) -> LineItem:
    """A line item of customer456 for that meter, with all that can be shown of it."""
    make_feature(
        meter, name="Traffic", unit_singular="kB", unit_plural="kB", reporting_unit_singular="MB", reporting_unit_plural="MB",
        reporting_conversion_rate=Decimal(1000),
    )  # fmt: skip
    members = {"commitment_type": "amount", "commitment_amount": Decimal(1), "commitment_duration": "MONTHLY"}
    item = line_item(meter, customer="customer456", item=members, **tiered("SLAB", SLAB))
    apply_coupon(make_coupon("50"), item)
    return item


EVERYTHING = ["price", "meter", "feature", "subscription_line_item", "plan", "addon", "source"]


def make_event(event_id: str, day: int = 2, **changed: Any) -> dict[str, Any]:
    event = {
        "event_name": "api_request",
        "external_customer_id": "customer456",
        "event_id": event_id,
        "timestamp": f"2025-06-{day:02}T15:04:05.123456789Z",
        "properties": {"request_size": "10.5", "region": "eu"},
        "source": "api",
    }
    return event | changed


def raw(**members: Any) -> bytes:
    return json.dumps(members).encode()


# The older client


def test_the_older_client_ingests_one_event(old_client: Call):
    assert old_client("post_events", request=make_event("event123")) == {
        "message": "Event accepted for processing",
        "event_id": "event123",
    }
    model = old_components.DtoIngestEventRequest(event_name="api_request", external_customer_id="customer456")
    answer = old_client("post_events", request=model)
    assert answer["event_id"].startswith("event_")
    found = old_client("post_events_query", request=raw())
    assert [event.id for event in found.events] == [answer["event_id"]]


def test_the_older_client_ingests_a_batch(old_client: Call):
    events = [make_event(f"e{number}") for number in range(1000)]
    assert old_client("post_events_bulk", request={"events": events}) == {"message": "Events accepted for processing"}
    assert old_client("post_events_query", request=raw(**JUNE, page_size=1)).total_count == 1000


def test_the_older_client_lists_events(old_client: Call):
    old_client("post_events_bulk", request={"events": [make_event("a"), make_event("b", source="web")]})
    found = old_client("post_events_query", request=(raw(**JUNE, source="api", property_filters={"region": ["eu"]})))
    [event] = found.events
    assert isinstance(event, old_components.DtoEvent)
    assert (event.id, event.external_customer_id, event.event_name) == ("a", "customer456", "api_request")
    assert event.properties == {"request_size": "10.5", "region": "eu"}
    assert datetime.fromisoformat(event.timestamp) == datetime(2025, 6, 2, 15, 4, 5, 123456, tzinfo=UTC)
    assert (event.source, event.environment_id, event.customer_id) == ("api", "main", "")
    assert (found.has_more, found.total_count, found.offset) == (False, 1, 50)


@pytest.mark.parametrize("is_async", [False], ids=["plain"])
def test_the_older_client_sends_streams_and_files(old_client: Call, meter: Meter, tmp_path: Path):
    old_client("post_events", request=make_event("a"))
    usage = {"event_name": "api_request", "aggregation_type": "COUNT"}
    for operation, query in (
        ("post_events_query", {}),
        ("post_events_usage", usage),
        ("post_events_usage_meter", {"meter_id": meter.id}),
        ("post_events_analytics", {}),
    ):
        path = tmp_path / operation
        path.write_bytes(raw(**JUNE, **query))
        with path.open("rb") as file:
            answers = [old_client(operation, request=body) for body in (file, io.BytesIO(path.read_bytes()), path.read_bytes())]
        assert answers[0] == answers[1] == answers[2]
    assert answers[0].items[0].total_usage == "10.5"


def test_the_older_client_pages_by_cursor_and_by_offset(old_client: Call):
    sent = {f"event::{number}" for number in range(23)}
    old_client("post_events_bulk", request={"events": [make_event(event_id) for event_id in sent]})
    for order in ("asc", "desc"):
        found, query = [], {"page_size": 7, "order": order, **JUNE}
        while True:
            page = old_client("post_events_query", request=raw(**query))
            found += [event.id for event in page.events]
            if not page.has_more:
                break
            query["iter_last_key"] = page.iter_last_key
        assert found == sorted(sent, reverse=order == "desc")
    found, offset = [], 0
    while offset is not None:
        page = old_client("post_events_query", request=raw(page_size=7, offset=offset, **JUNE))
        found += [event.id for event in page.events]
        offset = page.offset if page.has_more else None
    assert sorted(found) == sorted(sent)


def test_the_older_client_asks_for_usage(old_client: Call):
    old_client("post_events_bulk", request={"events": [make_event("a"), make_event("b"), make_event("c", day=3)]})
    query = {"event_name": "api_request", "aggregation_type": "SUM", "property_name": "request_size", **JUNE}
    total = old_client("post_events_usage", request=(raw(**query)))
    assert (total.value, total.type, total.event_name) == (31.5, old_components.TypesAggregationType.SUM, "api_request")
    assert total.results == []
    windows = old_client("post_events_usage", request=raw(**query, window_size="DAY"))
    assert [(point.window_size, point.value) for point in windows.results] == [
        ("2025-06-02T00:00:00Z", 21.0),
        ("2025-06-03T00:00:00Z", 10.5),
    ]


def test_the_older_client_reads_every_aggregation(old_client: Call):
    old_client("post_events", request=make_event("a"))
    for type in old_components.TypesAggregationType:
        body = raw(event_name="api_request", aggregation_type=type.value, property_name="request_size", **JUNE)
        assert old_client("post_events_usage", request=body).type is type


def test_the_older_client_asks_for_usage_by_meter(old_client: Call, meter: Meter):
    old_client("post_events", request=make_event("a"))
    usage = old_client("post_events_usage_meter", request=(raw(meter_id=meter.id, external_customer_id="customer456", **JUNE)))
    assert (usage.value, usage.event_name, usage.type.value) == (10.5, "api_request", "SUM")


def test_the_older_client_asks_for_analytics(old_client: Call, meter: Meter):
    old_client("post_events_bulk", request={"events": [make_event("a"), make_event("b", source="web")]})
    query = {"group_by": ["source", "properties.region"], "window_size": "DAY", "expand": ["meter"], **JUNE}
    answer = old_client("post_events_analytics", request=(raw(external_customer_id="customer456", **query)))
    assert (answer.total_cost, answer.currency) == ("0", "")
    assert [(item.source, item.properties, item.total_usage, item.event_count) for item in answer.items] == [
        ("api", {"region": "eu"}, "10.5", 1),
        ("web", {"region": "eu"}, "10.5", 1),
    ]
    item = answer.items[0]
    assert (item.meter_id, item.name, item.meter.id, item.meter.reset_usage.value) == (
        meter.id,
        "Request size",
        meter.id,
        "BILLING_PERIOD",
    )
    assert (item.window_size.value, item.aggregation_type.value) == ("DAY", "SUM")
    assert [(point.timestamp, point.usage, point.cost, point.event_count) for point in item.points] == [
        ("2025-06-02T00:00:00Z", "10.5", "0", 1)
    ]
    assert old_client("post_events_analytics", request=raw(**JUNE)).items[0].window_size is None


def test_the_older_client_sees_what_usage_costs(old_client: Call, priced: LineItem):
    old_client("post_events", request=make_event("a"))
    query = {"external_customer_id": "customer456", "window_size": "DAY", "expand": EVERYTHING, **JUNE}
    answer = old_client("post_events_analytics", request=raw(**query))
    assert (answer.total_cost, answer.currency) == ("0.52", "usd")
    [item] = answer.items
    assert (item.name, item.total_usage, item.total_cost, item.currency) == ("Traffic", "10.5", "0.52", "usd")
    assert (item.sub_line_item_id, item.subscription_line_item.id) == (priced.id, priced.id)
    assert (item.price_id, item.price.id, item.price.billing_model.value, item.price.tier_mode.value) == (
        priced.price_id, priced.price_id, "TIERED", "SLAB",
    )  # fmt: skip
    assert [(tier.up_to, tier.unit_amount, tier.flat_amount) for tier in item.price.tiers] == [
        (100, "0.1", None), (1000, "0.05", "2"), (None, "0.01", None),
    ]  # fmt: skip
    assert (item.plan.id, item.plan_id, item.feature.name, item.meter.id) == (
        priced.price.entity_id, priced.price.entity_id, "Traffic", priced.meter_id,
    )  # fmt: skip
    assert (item.commitment_info.type.value, item.commitment_info.amount) == ("amount", "1")
    assert item.points[0].cost == "0.52"


def test_the_older_clients_empty_call_for_inference_costs_is_answered(old_client: Call, priced: LineItem):
    assert old_client("post_events_huggingface_inference").requests == []


def test_the_older_client_monitors(old_client: Call):
    now = datetime.now(UTC)
    old_client("post_events", request=make_event("a", timestamp=now.isoformat()))
    for window in ({}, {"window_size": "HOUR"}):
        answer = old_client("get_events_monitoring", **window)
        assert (answer.total_count, answer.consumption_lag, answer.post_processing_lag) == (1, 0, 0)
        assert [(point.timestamp[:13], point.event_count) for point in answer.points] == (
            [(now.strftime("%Y-%m-%dT%H"), 1)] if window else []
        )


@pytest.mark.parametrize(
    ("operation", "arguments", "message"),
    [
        ("post_events", {"request": make_event("x", event_name="")}, "event_name is required"),
        ("post_events", {"request": make_event("x", timestamp="yesterday")}, "timestamp must be an RFC 3339 timestamp"),
        ("post_events_bulk", {"request": {"events": []}}, "events must hold at least one event"),
        (
            "post_events_bulk",
            {"request": {"events": [make_event("x", event_name=" ")]}},
            "events[0].event_name must not be blank",
        ),
        ("post_events_query", {"request": raw(sort="bogus")}, "invalid sort field"),
        ("post_events_query", {"request": b"{"}, "the body is not usable JSON"),
        ("post_events_usage", {"request": raw(event_name="x", aggregation_type="MEDIAN")}, "aggregation type is not supported"),
        ("post_events_usage_meter", {"request": raw()}, "meter_id is required"),
        ("post_events_analytics", {"request": raw(group_by=["x"])}, 'group_by entry "x" is not recognized'),
        ("get_events_monitoring", {"window_size": "FORTNIGHT"}, "Invalid window size"),
    ],
)
def test_the_older_client_raises_its_typed_error_for_a_400(old_client: Call, operation: str, arguments: Any, message: str):
    with pytest.raises(old_errors.ErrorsErrorResponse) as raised:
        old_client(operation, **arguments)
    assert raised.value.status_code == 400
    assert message in raised.value.message
    assert raised.value.data.success is False
    assert raised.value.data.error.message == raised.value.message
    assert raised.value.data.error.internal_error.startswith("validation_error")


def test_the_older_client_raises_its_typed_error_for_an_unknown_meter(old_client: Call):
    with pytest.raises(old_errors.ErrorsErrorResponse, match="Meter not found") as raised:
        old_client("post_events_usage_meter", request=raw(meter_id="meter_01"))
    assert raised.value.status_code == 404


def test_the_older_client_raises_its_typed_error_for_a_500(old_client: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flexmeter.recording.accept", lambda *given, **named: 1 / 0)
    with pytest.raises(old_errors.ErrorsErrorResponse, match="An unexpected error occurred") as raised:
        old_client("post_events", request=make_event("a"), retries=None)
    assert raised.value.status_code == 500


def test_a_wrong_key_is_the_older_clients_untyped_error(live_server: Any, is_async: bool):
    with calling(old_sdk(live_server, "wrong"), is_async) as call, pytest.raises(old_errors.SDKError) as raised:
        call("post_events", request=make_event("a"))
    assert raised.value.status_code == 401


def test_the_older_client_repeats_a_throttled_call_when_it_is_told_to(
    old_client: Call, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    settings.FLEXMETER_REQUESTS_PER_MINUTE = 1
    monkeypatch.setattr("flexmeter.http.throttling.seconds_left", lambda: 1.0)
    spent = iter([2, 1])
    monkeypatch.setattr("flexmeter.http.throttling.spent", lambda *given: next(spent))
    assert old_client("post_events", request=make_event("a"))["event_id"] == "a"
    assert next(spent, None) is None


# The newer client


def test_the_newer_client_ingests_one_event_and_a_batch(new_client: Call):
    assert new_client("ingest_event", **make_event("a")) == {"message": "Event accepted for processing", "event_id": "a"}
    generated = new_client("ingest_event", event_name="api_request", external_customer_id="customer456")
    assert generated["event_id"].startswith("event_")
    batch = [make_event("b"), new_models.IngestEventRequest(**make_event("c"))]
    for events in (batch[:1], batch[1:]):
        assert new_client("ingest_events_bulk", events=events) == {"message": "Events accepted for processing"}
    found = new_client("list_raw_events", **JUNE_DATES)
    assert [event.id for event in found.events] == ["c", "b", "a"]
    [event] = [event for event in found.events if event.id == "a"]
    assert isinstance(event, new_models.Event)
    assert event.properties == {"request_size": "10.5", "region": "eu"}
    assert abs(event.ingested_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_newer_client_pages(new_client: Call):
    sent = {f"event {number}" for number in range(9)}
    new_client(
        "ingest_events_bulk", events=[make_event(event_id, day=number + 1) for number, event_id in enumerate(sorted(sent))]
    )
    found: list[str] = []
    key = None
    while True:
        page = new_client("list_raw_events", page_size=4, sort="event_name", order="asc", iter_last_key=key, **JUNE_DATES)
        found += [event.id for event in page.events]
        assert page.total_count == 9
        if not page.has_more:
            break
        key = page.iter_last_key
    assert found == sorted(sent)
    second = new_client("list_raw_events", page_size=4, offset=4, order="asc", **JUNE_DATES)
    assert [event.id for event in second.events] == sorted(sent)[4:8]
    assert second.offset == 8
    kolkata = timezone(timedelta(hours=5, minutes=30))
    early = new_client("list_raw_events", end_time=datetime(2025, 6, 2, 20, 34, 5, 123456, tzinfo=kolkata))
    assert [event.id for event in early.events] == ["event 1", "event 0"]


@pytest.mark.usefixtures("unpriced")
@pytest.mark.parametrize("event_id", ["event123", "a/b c", "100% & more=+?#", "é 😀", "a\nb", "monitoring", "lookup", "::"])
def test_the_newer_client_looks_an_event_up(new_client: Call, meter: Meter, event_id: str):
    new_client("ingest_event", **make_event(event_id, external_customer_id="c+ ü"))
    window = {"start_time": "2025-06-01T05:30:00+05:30", "end_time": "2025-06-03T00:00:00Z"}
    for times in ({}, window):
        found = new_client("get_event", id=event_id, external_customer_id="c+ ü", **times)
        assert (found.event.id, found.status, found.debug_tracker) == (event_id, "processed", None)
        assert [event.id for event in found.events] == [event_id]
        [counted] = found.processed_events
        assert (counted.meter_id, counted.qty_total) == (meter.id, "10.5")
        assert counted.processed_at == found.event.ingested_at


@pytest.mark.usefixtures("unpriced")
def test_the_newer_client_sees_why_an_event_was_not_counted(new_client: Call):
    new_client("ingest_event", **make_event("a"))
    found = new_client("get_event", id="a", external_customer_id="customer456")
    assert (found.status, found.processed_events) == ("failed", [])
    tracker = found.debug_tracker
    assert (tracker.meter_matching.status, tracker.price_lookup.status) == ("not_found", "unprocessed")
    assert tracker.failure_point.failure_point_type == "meter_lookup"
    assert tracker.failure_point.error.code == "not_found"
    assert tracker.failure_point.error.message == "No meters found matching event_name: api_request"


def test_the_newer_client_asks_for_usage(new_client: Call, meter: Meter):
    new_client("ingest_events_bulk", events=[make_event("a"), make_event("b", day=3, properties={"request_size": "1"})])
    query = {"event_name": "api_request", "property_name": "request_size", "external_customer_id": "customer456", **JUNE_DATES}
    total = new_client("get_usage_statistics", aggregation_type="SUM", filters={"region": ["eu", "us"]}, **query)
    assert (total.value, total.type, total.event_name) == (10.5, "SUM", "api_request")
    windows = new_client(
        "get_usage_statistics", aggregation_type="SUM_WITH_MULTIPLIER", multiplier="2", window_size="MONTH",
        billing_anchor=datetime(2025, 1, 3, tzinfo=UTC), timezone="Asia/Kolkata", **query,
    )  # fmt: skip
    assert [(point.window_size, point.value) for point in windows.results] == [
        ("2025-05-02T18:30:00Z", 21.0),
        ("2025-06-02T18:30:00Z", 2.0),
    ]
    bucketed = new_client(
        "get_usage_statistics", aggregation_type="MAX", bucket_size="DAY", group_by=["properties.region"], **query
    )
    assert bucketed.value == 11.5
    by_meter = new_client("get_usage_by_meter", meter_id=meter.id, window_size="DAY", **JUNE_DATES)
    assert [point.value for point in by_meter.results] == [10.5, 1.0]


def test_the_newer_client_asks_for_analytics(new_client: Call, meter: Meter):
    new_client("ingest_events_bulk", events=[make_event("a"), make_event("b", source="web")])
    answer = new_client(
        "get_usage_analytics", external_customer_id="customer456", group_by=["source"], window_size="DAY", expand=["meter",
        "source"],
        property_filters={"region": ["eu"]}, sources=["api", "web"], include_children=False, breakdown_bucket=False, **JUNE_DATES,
    )  # fmt: skip
    assert (answer.total_cost, answer.subtotal, answer.total_discount, answer.custom_analytics) == ("0", "0", "0", [])
    assert [(item.source, item.sources, item.total_usage) for item in answer.items] == [
        ("api", ["api"], "10.5"),
        ("web", ["web"], "10.5"),
    ]
    item = answer.items[0]
    assert (item.meter.id, item.meter.aggregation.type, item.meter.aggregation.field) == (meter.id, "SUM", "request_size")
    assert item.meter.created_at.tzinfo is not None
    assert [(point.usage, point.discount, point.event_count) for point in item.points] == [("10.5", "0", 1)]


def test_the_newer_client_sees_what_usage_costs(new_client: Call, priced: LineItem):
    new_client("ingest_event", **make_event("a"))
    query = {"external_customer_id": "customer456", "window_size": "DAY", "expand": EVERYTHING}
    answer = new_client("get_usage_analytics", **query, **JUNE_DATES)
    assert (answer.subtotal, answer.total_discount, answer.total_cost, answer.currency) == ("1.05", "0.53", "0.52", "usd")
    [item] = answer.items
    assert (item.name, item.unit, item.total_usage_display, item.reporting_unit.conversion_rate) == (
        "Traffic",
        "kB",
        "0.01",
        1000,
    )
    assert (item.price.id, item.price.display_amount, item.price.tiers[2].unit_amount) == (priced.price_id, "$0.10", "0.01")
    assert (item.subscription_line_item.id, item.subscription_line_item.commitment_amount) == (priced.id, "1")
    assert (item.feature.name, item.plan.id, item.addon) == ("Traffic", priced.price.entity_id, None)
    info = item.commitment_info
    assert (info.computed_commitment_utilized_amount, info.computed_overage_amount, info.duration) == ("1", "0.05", "MONTHLY")
    assert [(point.subtotal, point.discount, point.cost) for point in item.points] == [("1.05", "0.53", "0.52")]


def test_the_newer_client_sees_how_an_event_found_its_price(new_client: Call, priced: LineItem):
    new_client("ingest_event", **make_event("a"))
    new_client("ingest_event", **make_event("early") | {"timestamp": "2024-06-02T15:04:05Z"})
    found = new_client("get_event", id="a", external_customer_id="customer456")
    [claim] = found.processed_events
    assert (found.status, claim.sub_line_item_id, claim.price_id, claim.qty_total) == (
        "processed", priced.id, priced.price_id, "10.5",
    )  # fmt: skip
    found = new_client("get_event", id="early", external_customer_id="customer456")
    tracker = found.debug_tracker
    assert (found.status, tracker.customer_lookup.customer.external_id) == ("failed", "customer456")
    assert tracker.meter_matching.matched_meters[0].meter.id == priced.meter_id
    assert tracker.price_lookup.matched_prices[0].price.id == priced.price_id
    [matched] = tracker.subscription_line_item_lookup.matched_line_items
    assert (matched.is_active_for_event, matched.end_date.year, matched.subscription_line_item.id) == (False, 1, priced.id)
    assert tracker.failure_point.failure_point_type == "subscription_line_item_lookup"


@pytest.mark.parametrize(
    ("operation", "arguments", "status", "code", "message"),
    [
        ("ingest_event", make_event("x", event_name=""), 400, "validation_error", "event_name is required"),
        ("ingest_events_bulk", {"events": []}, 400, "validation_error", "events must hold at least one event"),
        ("list_raw_events", {"order": "bogus"}, 400, "validation_error", "invalid order by value"),
        ("list_raw_events", {"start_time": datetime(2025, 6, 1)}, 400, "validation_error", "start_time must be an RFC 3339"),
        ("get_usage_statistics", {"event_name": "x", "aggregation_type": "MEDIAN"}, 400, "validation_error", "not supported"),
        ("get_usage_by_meter", {"meter_id": "meter_01"}, 404, "not_found", "Meter not found"),
        ("get_usage_analytics", {"window_size": "FORTNIGHT"}, 400, "validation_error", "Invalid window size"),
        ("get_event", {"id": "nope", "external_customer_id": "c"}, 404, "not_found", "Event not found in events table"),
        ("get_event", {"id": "", "external_customer_id": "c"}, 400, "validation_error", "Please provide a valid event ID"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # the client's, for words it does not know
def test_the_newer_client_raises_its_typed_error(
    new_client: Call, operation: str, arguments: Any, status: int, code: str, message: str
):
    with pytest.raises(new_errors.ErrorResponse) as raised:
        new_client(operation, **arguments)
    assert (raised.value.status_code, raised.value.data.http_status_code, raised.value.data.code) == (status, status, code)
    assert message in raised.value.message
    assert raised.value.data.message == raised.value.message


def test_a_wrong_key_is_the_newer_clients_untyped_error(live_server: Any, is_async: bool):
    with calling(new_sdk(live_server, "wrong"), is_async) as call, pytest.raises(new_errors.FlexpriceDefaultError) as raised:
        call("get_usage_analytics")
    assert raised.value.status_code == 401
