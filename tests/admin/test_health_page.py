"""The health page: figures that are bounded, findings with what to do, and `unknown` where it cannot be told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test import Client

from flexmeter import activity, health, inbox, upkeep
from flexmeter.ingest import ingest
from flexmeter.maintenance.verification import verify_and_remember
from flexmeter.models import Event, EventRevision, InboxBatch, LastRun, Meter, RejectedEvent, Rollup, now
from flexmeter.schedule import SWEEP, VERIFY

from tests.factories import NOON, make_event, make_meter
from tests.polling import within_one_hour

pytestmark = pytest.mark.django_db

PAGE = "/admin/flexmeter/health/"


@pytest.fixture(autouse=True)
def no_bell(monkeypatch):
    monkeypatch.setattr(inbox, "ring", lambda alias: None)


def findings(client):
    response = client.get(PAGE)
    assert response.status_code == 200
    return {finding.name: finding for finding, *_ in response.context["wrong"] + response.context["fine"]}


def tiles(client, **query):
    response = client.get(PAGE, query)
    assert response.status_code == 200
    return {tile.label: tile.told for tile in response.context["page"].tiles}


def recent(event_id, *, ago=timedelta(minutes=5), **changed):
    at = now() - ago
    return make_event(event_id, timestamp=at, accepted_at=at, **changed)


def make_rejected(reason, *, ago=timedelta(minutes=5), environment="default"):
    at = now() - ago
    return RejectedEvent.objects.create(environment=environment, body={}, reason=reason, accepted_at=at, rejected_at=at)


def test_where_all_is_well_the_page_says_so(viewer):
    found = findings(viewer)
    assert {name for name, finding in found.items() if finding.state != "ok"} <= {"durability"}
    assert "Nothing waits to be counted." in viewer.get(PAGE).content.decode()


def test_what_is_wrong_comes_first_with_what_to_do(viewer):
    inbox.put([make_event()], environment="default")
    InboxBatch.objects.update(accepted_at=now() - timedelta(hours=2))
    make_rejected("pruned")
    response = viewer.get(PAGE)
    assert [finding.name for finding, *_ in response.context["wrong"]][:2] == ["inbox", "rejected"]
    assert response.context["worst"] == "error"
    page = response.content.decode()
    assert "Needs attention: Inbox, " in page
    assert "manage.py flexmeter_drain" in page
    assert "manage.py flexmeter_rejected retry" in page


def test_the_figures_of_a_day(viewer):
    ingest([recent("a"), recent("b"), recent("c"), recent("old", ago=timedelta(days=2))])
    ingest([recent("b", ago=timedelta(0), source="changed")])
    Event.objects.filter(event_id="c").update(repeated_at=now())
    ingest([recent("elsewhere")], environment="other")
    make_rejected("pruned")
    make_rejected("pruned")
    make_rejected("conflict")
    make_rejected("error", ago=timedelta(days=2))
    make_rejected("error", environment="other")
    inbox.put([make_event("w1"), make_event("w2")], environment="other")
    InboxBatch.objects.update(accepted_at=now() - timedelta(minutes=3))
    told = tiles(viewer, environment="default")
    assert told == {
        "Events that wait": "2",
        "Oldest waits for": "3 min",
        "Events, 24 hours": "3",
        "Sent again, unchanged": "1",
        "Sent again, changed": "1",
        "Rejected": "3",
    }
    response = viewer.get(PAGE, {"environment": "default"})
    assert [(reason, number) for reason, number, _ in response.context["page"].reasons] == [("pruned", "2"), ("conflict", "1")]
    assert tiles(viewer, environment="other")["Events, 24 hours"] == "1"


def test_every_hour_has_a_bar_whose_link_lists_its_events(viewer):
    within_one_hour()
    ingest([recent("a", ago=timedelta(0)), recent("b", ago=timedelta(hours=3))])
    page = viewer.get(PAGE).context["page"]
    assert len(page.chart.bars) == activity.HOURS
    assert [bar.title.rpartition(": ")[2] for bar in page.chart.bars].count("1") == 2
    found = viewer.get(page.chart.bars[-4].url).context["cl"].result_list
    assert [event.event_id for event in found] == ["b"]


def test_counts_stop_at_their_bounds_and_say_so(viewer, monkeypatch):
    from flexmeter.admin import health as page

    ingest([recent(f"e{number}", ago=timedelta(0)) for number in range(4)])
    for number in range(4):
        make_rejected("pruned")
        inbox.put([make_event(f"w{number}")], environment="default")
        EventRevision.objects.create(
            environment="default", event_id="e0", event_name="x", external_customer_id="x", timestamp=NOON, accepted_at=NOON
        )
    monkeypatch.setattr(activity, "MOST_COUNTED", 3)
    monkeypatch.setattr(activity, "MOST_COUNTED_IN_AN_HOUR", 3)
    monkeypatch.setattr(page, "MOST_COUNTED", 3)
    monkeypatch.setattr(health, "MOST_COUNTED", 3)
    told = tiles(viewer)
    for label in ("Events that wait", "Events, 24 hours", "Sent again, changed", "Rejected"):
        assert told[label] == "3 or more", label
    assert "of the newest 3 events" in viewer.get(PAGE).content.decode()
    assert "3 or more" in findings(viewer)["inbox"].sentence
    assert "3 or more" in findings(viewer)["rejected"].sentence


def test_hours_that_there_is_no_time_for_are_unknown_not_empty(viewer, monkeypatch):
    monkeypatch.setattr(activity, "SECONDS_OF_ALL_HOURS", 0.0)
    ingest([recent("a")])
    assert tiles(viewer)["Events, 24 hours"] is None
    page = viewer.get(PAGE).context["page"]
    assert {told for _, told, _ in page.hourly} == {"unknown"}


TABLES = ["event", "eventrevision", "inboxbatch", "rejectedevent", "meter", "lastrun", "environment"]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_times_out_leaves_the_rest_of_the_page(admin_client, table):
    def time_out(execute, sql, *arguments):
        if f"flexmeter_{table}" in sql.replace('"', " ").replace("`", " ").split():
            raise OperationalError("canceling statement due to statement timeout")
        return execute(sql, *arguments)

    ingest([recent("a")])
    with connection.execute_wrapper(time_out):
        response = admin_client.get(PAGE)
        page = response.content.decode()
    assert response.status_code == 200
    assert "unknown" in page


def test_a_failed_statement_leaves_the_transaction_of_the_request_usable(admin_client, monkeypatch):
    def fail(*_, **__):
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM flexmeter_event")

    monkeypatch.setattr(inbox, "survey", fail)
    found = findings(admin_client)
    assert found["inbox"].state == "unknown"
    assert found["rejected"].state == "ok"
    assert tiles(admin_client)["Events that wait"] is None


def test_a_meter_being_rebuilt_shows_how_far_it_has_come(viewer):
    make_meter(name="Tokens")
    Meter.objects.update(rollups_ready=False, rebuild_done=250, rebuild_total=1_000)
    response = viewer.get(PAGE)
    assert [(meter.name, progress) for meter, progress, _ in response.context["page"].rebuilds] == [
        ("Tokens", "25 % (250 of about 1,000 events)")
    ]
    assert findings(viewer)["meters"].state == "warning"


def test_a_verification_is_remembered_with_its_result(viewer):
    make_meter()
    ingest([make_event()])
    assert findings(viewer)["verification"].state == "unknown"
    call_command("flexmeter_verify", verbosity=0)
    assert findings(viewer)["verification"].state == "ok"
    assert "1 meters, 1 customers" in findings(viewer)["verification"].sentence
    LastRun.objects.update(started_at=now() - timedelta(days=10))
    assert findings(viewer)["verification"].state == "warning"
    Rollup.objects.update(count=7)
    assert len(list(verify_and_remember())) == 1
    found = findings(viewer)["verification"]
    assert found.state == "error"
    assert f"--meter {Meter.objects.get().pk} --restart" in found.advice


def test_a_verification_of_one_environment_stands_until_all_are_verified_again(viewer):
    make_meter(environment="other")
    ingest([make_event()], environment="other")
    list(verify_and_remember())
    Rollup.objects.update(count=7)
    list(verify_and_remember("other"))
    assert findings(viewer)["verification"].state == "error"
    Rollup.objects.update(count=1)
    list(verify_and_remember())
    assert findings(viewer)["verification"].state == "ok"


def test_a_verification_that_is_broken_off_is_not_remembered():
    make_meter()
    ingest([make_event()])
    Rollup.objects.update(count=7)
    next(verify_and_remember())
    assert upkeep.last_runs(VERIFY) == []


def test_a_sweep_that_ended_long_ago_is_an_error(viewer, settings):
    assert findings(viewer)["sweep"].state == "ok"
    settings.FLEXMETER_INGEST = "celery"
    assert findings(viewer)["sweep"].state == "unknown"
    with upkeep.noted(SWEEP):
        pass
    assert findings(viewer)["sweep"].state == "ok"
    LastRun.objects.update(ended_at=now() - timedelta(minutes=5))
    assert findings(viewer)["sweep"].state == "warning"
    LastRun.objects.update(ended_at=now() - timedelta(hours=5))
    assert findings(viewer)["sweep"].state == "error"
    with upkeep.noted(SWEEP):
        pass
    assert findings(viewer)["sweep"].state == "ok"
    assert LastRun.objects.count() == 1


def test_a_sweep_that_fails_leaves_no_sign_of_life():
    with pytest.raises(ZeroDivisionError), upkeep.noted(SWEEP):
        raise ZeroDivisionError
    assert upkeep.last_runs(SWEEP) == []


@pytest.mark.parametrize("who", ["outsider", "viewer", "narrow", "admin_client"])
def test_only_who_may_look_sees_it_and_nobody_can_change_anything(request, who):
    if who == "narrow":
        user = User.objects.create_user("narrow", password="x", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename="view_health"))
        client = Client()
        client.force_login(user)
    else:
        client = request.getfixturevalue(who)
    upkeep.remember(SWEEP, started_at=now())
    look = 200 if who != "outsider" else 403
    run = LastRun.objects.get()
    assert client.get(PAGE).status_code == look
    assert client.get(f"{PAGE}add/").status_code == 403
    assert client.post(f"{PAGE}{run.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{PAGE}{run.pk}/change/").status_code == look
    assert LastRun.objects.count() == 1
    if look == 200:
        page = client.get(PAGE)
        linked = [tile.url for tile in page.context["page"].tiles if tile.url]
        assert bool(linked) == (who != "narrow"), "nobody is sent where they may not look"
    assert ("flexmeter/health/" in client.get("/admin/").content.decode()) == (look == 200)


def test_hostile_names_are_shown_as_text(admin_client):
    hostile = "<script>window.hacked = true</script>"
    make_meter(name=hostile, environment=hostile)
    Meter.objects.update(rollups_ready=False)
    make_rejected(hostile, environment=hostile)
    ingest([recent("a")], environment=hostile)
    page = admin_client.get(PAGE, {"environment": hostile}).content.decode()
    assert "<script>window" not in page
    assert "&lt;script&gt;window" in page


# Outside of a transaction, so that the savepoints that keep one usable are not counted.
@pytest.mark.django_db(transaction=True)
def test_the_number_of_queries_is_fixed(viewer, django_assert_num_queries):
    make_meter()
    ingest([recent("first")])
    durability = {"sqlite": 2, "postgresql": 2, "mysql": 1}[connection.vendor]
    isolation = {"sqlite": 0, "postgresql": 1, "mysql": 1}[connection.vendor]
    environments = {"mysql": 2}.get(connection.vendor, 1)  # MariaDB steps from one to the next, a query each
    expected = 45 + durability + isolation + environments
    viewer.get(PAGE)
    with django_assert_num_queries(expected):
        viewer.get(PAGE)
    ingest([recent(f"e{number}", ago=timedelta(minutes=number)) for number in range(50)])
    for number in range(20):
        make_rejected(f"reason {number}")
        inbox.put([make_event(f"w{number}")], environment=f"environment {number}")
    with django_assert_num_queries(expected):
        viewer.get(PAGE)
