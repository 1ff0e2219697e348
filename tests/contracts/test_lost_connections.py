"""For a few events no connection is asked whether it still works: on a lost one the event is sent again, and counts once."""

from __future__ import annotations

from contextlib import closing

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from flexmeter import inbox
from flexmeter.ingest import Ingested, ingest
from flexmeter.maintenance.verification import verify
from flexmeter.models import Event, InboxBatch
from flexmeter.stores.database.prepared import SEEN_BEFORE
from flexmeter.stores.database.transactions import close_if_lost

from tests.factories import make_event, make_meter
from tests.requirements import only_on

pytestmark = pytest.mark.django_db(transaction=True)
MINE = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
END = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}


def lose(connection):
    """End the session at its server, behind the client's back."""
    with connection.cursor() as cursor:
        cursor.execute(MINE[connection.vendor])
        [session] = cursor.fetchone()
    # Not through Django, which would tell of a new connection and make forget what is remembered.
    with closing(connection.get_new_connection(connection.get_connection_params())) as other, other.cursor() as cursor:
        cursor.execute(END[connection.vendor], [session])


def in_a_later_request(connection):
    """As Django leaves a connection that it keeps, with CONN_HEALTH_CHECKS, when a request ends."""
    connection.health_check_enabled, connection.health_check_done = True, False


def ingest_some(number):
    make_meter("SUM", field="n")
    for place in range(number):
        ingest([make_event(f"e{place}", properties={"n": 1})])


def some(name, number):
    return [make_event(f"{name} {place}", properties={"n": 1}) for place in range(number)]


@only_on("postgresql")
@pytest.mark.parametrize("before", [1, SEEN_BEFORE + 2], ids=["sent whole", "prepared"])
@pytest.mark.parametrize("events", [1, 3])
def test_events_on_a_lost_connection_are_stored_and_counted_once(before, events):
    ingest_some(before)
    for place in range(before):
        ingest(some(f"few {place}", events))
    lose(connection)
    assert ingest(some("late", events)) == Ingested(stored=events)
    assert Event.objects.count() == before + (before + 1) * events
    assert list(verify()) == []


@only_on("postgresql")
@pytest.mark.parametrize("events", [1, 3])
def test_what_was_committed_when_the_connection_was_lost_counts_once(events):
    ingest_some(2)
    sent = []

    def lost_after(execute, *call):
        done = execute(*call)
        if not sent:
            sent.append(call)
            lose(connection)
            raise OperationalError("server closed the connection unexpectedly")
        return done

    with connection.execute_wrapper(lost_after):
        assert ingest(some("late", events)) == Ingested(repeated=events)
    assert Event.objects.count() == 2 + events
    assert list(verify()) == []


@only_on("postgresql")
def test_what_another_database_may_hold_is_looked_up_there():
    ingest_some(2)
    lose(connection)
    with CaptureQueriesContext(connection) as queries:
        ingest([make_event("late", properties={"n": 1})])
    assert any("flexmeter_series" in query["sql"] and "SELECT" in query["sql"] for query in queries)


@only_on("postgresql", "mariadb")
@pytest.mark.parametrize("before", [0, SEEN_BEFORE + 1], ids=["sent whole", "prepared"])
def test_an_event_on_a_lost_connection_is_kept_in_the_inbox(settings, monkeypatch, before):
    settings.FLEXMETER_INGEST = "celery"
    monkeypatch.setattr(inbox, "ring", lambda alias: None)
    for number in range(before):
        inbox.put([make_event(f"e{number}")], environment="default")
    connection.ensure_connection()
    lose(connection)
    inbox.put([make_event("late")], environment="default")
    assert InboxBatch.objects.count() == before + 1
    assert inbox.drain().ingested.stored == before + 1


@only_on("postgresql")
def test_a_connection_that_works_is_not_asked_for_a_single_event(monkeypatch):
    ingest_some(2)
    in_a_later_request(connection)
    monkeypatch.setattr(connection, "is_usable", lambda: pytest.fail("asked"))
    assert ingest([make_event("late", properties={"n": 1})]) == Ingested(stored=1)


@only_on("postgresql")
def test_a_connection_is_asked_before_what_cannot_be_sent_again():
    ingest_some(2)
    lose(connection)
    in_a_later_request(connection)
    new = make_event("late", external_customer_id="new", properties={"n": 1})  # of whom nothing is remembered
    assert ingest([new]) == Ingested(stored=1)


def test_an_error_on_a_connection_that_works_closes_nothing():
    connection.ensure_connection()
    assert not close_if_lost("default", OperationalError("deadlock"))
    assert connection.connection is not None


@pytest.mark.parametrize("error", [InterfaceError("closed"), OperationalError(2006, "gone away"), OperationalError(2013, "lost")])
def test_a_lost_connection_is_closed(error):
    connection.ensure_connection()
    assert close_if_lost("default", error)
    assert connection.connection is None


def test_what_fails_on_a_new_connection_too_is_raised(settings, monkeypatch):
    settings.FLEXMETER_INGEST = "celery"
    tried = []

    def lost(row, alias):
        tried.append(row)
        raise InterfaceError("connection already closed")

    monkeypatch.setattr(inbox, "_insert", lost)
    with pytest.raises(InterfaceError):
        inbox.put([make_event("late")], environment="default")
    assert len(tried) == 2
