"""Two environments with the same ids, customers, names and meters: neither sees, changes or counts anything of the other."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from flexmeter.keys import create_key
from flexmeter.models import Event, EventRevision, Rollup, Series, UniqueValue

from tests.http.client import EVER, Answer, Api, make_event, make_meter
from tests.http.operations import OPERATIONS

MINE, THEIRS, UNKNOWN = "event_of_mine", "event_of_them", "event_unknown"
PERIOD = {"start_time": "2025-06-02T00:00:00Z", "end_time": "2025-06-03T00:00:00Z"}


@pytest.fixture
def meters(api: Api, stranger: Api) -> dict[str, str]:
    """Ids of alike meters; both environments hold a shared id, an id of their own, and a customer of their own."""
    ids = {}
    for caller, own, customer, size in ((api, MINE, "cust_mine", 1), (stranger, THEIRS, "cust_them", 1000)):
        ids[own] = caller.meter(name="Shared name")["id"]
        caller.meter("COUNT_UNIQUE", field="region")
        caller.meter("MAX", bucket_size="HOUR", group_by="region")
        for event_id, external_customer_id in (("shared", "acme"), (own, customer)):
            properties = {"size": size, "region": own}
            caller.accept(make_event(event_id, external_customer_id=external_customer_id, properties=properties, source=own))
    return ids


def everything(api: Api, meter: str) -> list[Any]:
    """All that a caller can read, without what differs from call to call."""
    usage = EVER | {"event_name": "api_request", "aggregation_type": "SUM", "property_name": "size"}
    answers = [
        api.query(),
        api.query(page_size=1, sort="event_name"),
        api.get("/events?" + urlencode(EVER)),
        api.get("/events/shared"),
        api.get("/events/lookup?id=shared&external_customer_id=acme"),
        api.get("/events/monitoring?" + urlencode(PERIOD)),
        api.get("/events/monitoring?" + urlencode(PERIOD | {"window_size": "HOUR"})),
        api.post("/events/usage", usage),
        api.post("/events/usage", usage | {"window_size": "DAY"}),
        api.post("/events/usage", usage | {"aggregation_type": "COUNT_UNIQUE", "property_name": "region"}),
        api.post("/events/usage/meter", EVER | {"meter_id": meter}),
        api.post("/events/usage/meter", EVER | {"meter_id": meter, "filters": {"size": ["1", "1000"]}}),
        api.post("/events/analytics", EVER | {"expand": ["meter", "source"], "window_size": "DAY"}),
        api.post("/events/analytics", EVER | {"group_by": ["source", "properties.region"]}),
        api.post("/events/huggingface-inference", {"requestIds": [MINE, THEIRS, "shared"]}),
        api.get("/meters"),
        api.get(f"/meters/{meter}"),
    ]
    assert {answer.status for answer in answers} == {200}
    return [answer.body for answer in answers]


def rows(environment: str) -> list[Any]:
    """All that is stored of an environment."""
    series = {"series__environment": environment}
    return [
        list(Event.objects.filter(environment=environment).order_by("pk").values()),
        list(EventRevision.objects.filter(environment=environment).order_by("pk").values()),
        list(Series.objects.filter(environment=environment).order_by("pk").values()),
        list(Rollup.objects.filter(**series).order_by("pk").values()),
        list(UniqueValue.objects.filter(**series).order_by("pk").values()),
    ]


def test_each_sees_its_own_values_under_shared_ids(api: Api, stranger: Api, meters: dict[str, str]):
    for caller, own, size in ((api, MINE, 1), (stranger, THEIRS, 1000)):
        assert sorted(caller.ids()) == sorted(["shared", own])
        assert caller.get("/events/shared").body["event"]["properties"]["size"] == size
        assert caller.usage(aggregation_type="SUM", property_name="size").body["value"] == 2 * size
        assert caller.usage(aggregation_type="COUNT_UNIQUE", property_name="region").body["value"] == 1
        assert caller.post("/events/usage/meter", EVER | {"meter_id": meters[own]}).body["value"] == 2 * size
        assert {item["event_count"] for item in caller.post("/events/analytics", EVER).body["items"]} == {2}
        assert caller.get("/events/monitoring?" + urlencode(PERIOD)).body["total_count"] == 2
        assert caller.get("/meters").body["pagination"]["total"] == 3
        foreign = THEIRS if own == MINE else MINE
        assert foreign not in str(everything(caller, meters[own])[:10])


def test_nothing_that_one_does_touches_the_other(api: Api, stranger: Api, meters: dict[str, str]):
    seen, stored = everything(stranger, meters[THEIRS]), rows("elsewhere")
    theirs = meters[THEIRS]
    api.accept(make_event("shared", properties={"size": 77}), make_event(THEIRS, properties={"size": 5, "region": "x"}))
    api.accept(make_event("shared", external_customer_id="cust_them", properties={"size": 78}))
    api.post("/events/bulk", {"events": [make_event("shared", source="z"), {}]})
    for operation in OPERATIONS:
        operation.call(api, theirs)
    for operation in OPERATIONS:
        operation.call(api, meters[MINE])
    assert everything(stranger, theirs) == seen
    assert rows("elsewhere") == stored


def test_a_key_without_rights_in_between_changes_nothing_either(api: Api, stranger: Api, nobody: Api, meters: dict[str, str]):
    stored = rows("elsewhere"), rows("main")
    for operation in OPERATIONS:
        assert operation.call(nobody, meters[MINE]).status == 401
    assert (rows("elsewhere"), rows("main")) == stored


METER_ID = "meter_00000000000000000000000000"
OPERATIONS_ON_AN_ID: dict[str, Callable[[Api, str], Answer]] = {
    "event by path": lambda api, id: api.get(f"/events/{quote(id)}"),
    "event by path with a slash": lambda api, id: api.get(f"/events/{quote(id)}/"),
    "lookup": lambda api, id: api.get(f"/events/lookup?id={id}"),
    "lookup with their customer": lambda api, id: api.get(f"/events/lookup?id={id}&external_customer_id=cust_them"),
    "lookup with a time": lambda api, id: api.get(f"/events/lookup?id={id}&start_time=2025-06-01T00:00:00Z"),
    "query by id": lambda api, id: api.query(event_id=id),
    "list by id": lambda api, id: api.get("/events?" + urlencode(EVER | {"event_id": id})),
    "cursor by time": lambda api, id: api.query(iter_last_key=f"1748855400000000000::{id}"),
    "cursor by name": lambda api, id: api.post(
        "/events/query", {"sort": "event_name", "iter_last_key": f"1748855400000000000::{id}"}
    ),
    "first key by name": lambda api, id: api.post("/events/query", {"sort": "event_name", "iter_first_key": f"1::{id}"}),
    "inference": lambda api, id: api.post("/events/huggingface-inference", {"requestIds": [id]}),
}
OPERATIONS_ON_A_METER: dict[str, Callable[[Api, str], Answer]] = {
    "fetch": lambda api, id: api.get(f"/meters/{id}"),
    "change": lambda api, id: api.put(f"/meters/{id}", {"filters": [{"key": "a", "values": ["b"]}]}),
    "change without filters": lambda api, id: api.put(f"/meters/{id}", {}),
    "disable": lambda api, id: api.post(f"/meters/{id}/disable"),
    "delete": lambda api, id: api.delete(f"/meters/{id}"),
    "usage": lambda api, id: api.post("/events/usage/meter", EVER | {"meter_id": id}),
    "usage of their customer": lambda api, id: api.post(
        "/events/usage/meter", {"meter_id": id, "external_customer_id": "cust_them"}
    ),
    "usage in windows": lambda api, id: api.post("/events/usage/meter", {"meter_id": id, "window_size": "FORTNIGHT"}),
    "list by name": lambda api, id: api.get(f"/meters?name={id}"),
    "analytics": lambda api, id: api.post("/events/analytics", EVER | {"feature_ids": [id]}),
}


def alike(foreign: Answer, foreign_id: str, unknown: Answer, unknown_id: str) -> None:
    assert foreign.status == unknown.status
    assert str(foreign.body).replace(foreign_id, "ID") == str(unknown.body).replace(unknown_id, "ID")
    per_request = {"X-Request-ID"}
    assert {k: v for k, v in foreign.headers.items() if k not in per_request} == {
        k: v for k, v in unknown.headers.items() if k not in per_request
    }


@pytest.mark.parametrize("name", OPERATIONS_ON_AN_ID)
def test_a_foreign_event_answers_exactly_as_an_unknown_one(api: Api, meters: dict[str, str], name: str):
    operation = OPERATIONS_ON_AN_ID[name]
    alike(operation(api, THEIRS), THEIRS, operation(api, UNKNOWN), UNKNOWN)


@pytest.mark.parametrize("name", OPERATIONS_ON_A_METER)
def test_a_foreign_meter_answers_exactly_as_an_unknown_one(api: Api, meters: dict[str, str], name: str):
    operation, theirs = OPERATIONS_ON_A_METER[name], meters[THEIRS]
    assert len(theirs) == len(METER_ID)
    alike(operation(api, theirs), theirs, operation(api, METER_ID), METER_ID)


@pytest.mark.parametrize(
    "query",
    [
        lambda api, customer: api.query(external_customer_id=customer),
        lambda api, customer: api.query(property_filters={"region": [THEIRS if customer == "cust_them" else "nowhere"]}),
        lambda api, customer: api.query(source=THEIRS if customer == "cust_them" else "nowhere"),
        lambda api, customer: api.usage(external_customer_id=customer),
        lambda api, customer: api.usage(customer_id=customer, window_size="DAY"),
        lambda api, customer: api.post("/events/analytics", EVER | {"external_customer_id": customer}),
        lambda api, customer: api.post("/events/analytics", EVER | {"external_customer_id": customer, "group_by": ["source"]}),
        lambda api, customer: api.get("/events?" + urlencode(EVER | {"external_customer_id": customer})),
    ],
)
def test_a_foreign_customer_answers_exactly_as_an_unknown_one(
    api: Api, meters: dict[str, str], query: Callable[[Api, str], Answer]
):
    alike(query(api, "cust_them"), "cust_them", query(api, "cust_noth"), "cust_noth")


def test_a_meter_counts_events_of_its_own_environment_only(api: Api, stranger: Api):
    stranger.accept(make_event("a", properties={"size": 5}))
    meter = api.meter()
    stranger.accept(make_event("b", properties={"size": 6}))
    assert api.post("/events/usage/meter", EVER | {"meter_id": meter["id"]}).body["value"] == 0
    stranger.put(f"/meters/{meter['id']}", {"filters": [{"key": "size", "values": ["5"]}]})
    assert api.get(f"/meters/{meter['id']}").body["filters"] == []
    assert stranger.get("/events/a").body["status"] == "failed"


def test_walking_pages_never_leaves_the_environment(api: Api, stranger: Api):
    for caller, name in ((api, "m"), (stranger, "t")):
        caller.accept(*(make_event(f"{name}{number}") for number in range(10)))
    for sort in ("timestamp", "event_name"):
        found, cursor = [], {}
        while True:
            page = api.query(page_size=3, sort=sort, **cursor).body
            found += [event["id"] for event in page["events"]]
            if not page["has_more"]:
                break
            cursor = {"iter_last_key": page["iter_last_key"]}
        assert found == [f"m{number}" for number in range(9, -1, -1)]
        foreign = stranger.query(page_size=1, sort=sort).body["iter_first_key"]
        assert not any(id.startswith("t") for id in ids_after(api, sort, foreign))


def ids_after(api: Api, sort: str, key: str) -> list[str]:
    body = api.post("/events/query", EVER | {"sort": sort, "iter_last_key": key}).body
    return [event["id"] for event in body.get("events", [])]


def test_the_same_body_can_define_a_meter_in_both(api: Api, stranger: Api):
    first, second = (caller.post("/meters", make_meter()).body for caller in (api, stranger))
    assert first["id"] != second["id"]
    assert (first["tenant_id"], second["tenant_id"]) == ("main", "elsewhere")


def test_events_that_wait_are_seen_in_their_own_environment_only(
    api: Api, stranger: Api, settings, monkeypatch: pytest.MonkeyPatch
):
    settings.FLEXMETER_INGEST = "celery"
    monkeypatch.setattr("flexmeter.inbox.ring", lambda alias: None)
    stranger.accept(make_event("waiting"), make_event("shared"))
    assert stranger.get("/events/waiting").body["status"] == "processing"
    assert stranger.get("/events/monitoring").body["consumption_lag"] == 2
    assert api.get("/events/monitoring").body["consumption_lag"] == 0
    foreign, unknown = api.get("/events/waiting"), api.get("/events/unknown")
    alike(foreign, "waiting", unknown, "unknown")
    api.accept(make_event("shared", source="mine"))
    assert stranger.get("/events/shared").body["event"]["source"] == ""
    assert api.get("/events/shared").body["event"]["source"] == "mine"


@pytest.mark.parametrize("environment", ["MAIN", "main ", " main", "Main", "måin"])
def test_environments_that_look_alike_are_different(api: Api, environment: str):
    lookalike = Api(create_key("test", environment=environment).secret)
    lookalike.meter()
    lookalike.accept(make_event("e1"))
    assert api.ids() == []
    assert api.get("/meters").body["items"] == []
    assert lookalike.ids() == ["e1"]
