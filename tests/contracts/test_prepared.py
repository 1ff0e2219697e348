"""What a session keeps planned does the same as what is sent whole, and is done without where sessions forget it."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from flexmeter.inbox import backlog, put
from flexmeter.ingest import Ingested, ingest
from flexmeter.maintenance.verification import verify
from flexmeter.models import Environment, Event, InboxBatch, now
from flexmeter.stores.database import prepared
from flexmeter.stores.database.prepared import SEEN_BEFORE, run

from tests.factories import make_event, make_meter
from tests.requirements import only_on

pytestmark = pytest.mark.django_db(transaction=True)
on_postgresql = only_on("postgresql")
SQL = "INSERT INTO flexmeter_environment (name, created_at) VALUES (%s, %s)"


@pytest.fixture(autouse=True)
def a_new_session():
    connection.close()
    yield
    prepared._without.clear()


def add(name, *, first=""):
    with connection.cursor() as cursor:
        run("default", cursor, SQL, [name, connection.ops.adapt_datetimefield_value(now())], first=first)


def add_often(times=SEEN_BEFORE + 1, start=0):
    for number in range(start, start + times):
        add(f"e{number}")


def names():
    return set(Environment.objects.filter(name__startswith="e").values_list("name", flat=True))


def sent(work):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        work()
    return [query["sql"].split()[0] for query in queries]


def test_often_or_seldom_the_rows_are_the_same():
    add_often(SEEN_BEFORE * 3)
    assert names() == {f"e{number}" for number in range(SEEN_BEFORE * 3)}


@on_postgresql
def test_a_session_is_asked_to_keep_what_it_has_seen_often():
    assert sent(add_often) == ["INSERT"] * SEEN_BEFORE + ["EXECUTE"]
    assert sent(lambda: add("later")) == ["EXECUTE"]
    connection.close()
    assert sent(lambda: add("much later")) == ["INSERT"]


@on_postgresql
def test_where_a_session_has_forgotten_it_is_sent_whole_from_then_on():
    add_often()
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    assert sent(lambda: add("e_forgotten")) == ["EXECUTE", "INSERT"]
    assert sent(lambda: add("e_later")) == ["INSERT"]
    assert names() >= {"e_forgotten", "e_later"}


@on_postgresql
def test_what_another_client_of_the_session_has_prepared_is_used():
    add_often()
    prepared._sent.clear()  # as another process would see this session, handed to it by a pooler
    assert sent(lambda: add_often(start=100)) == ["INSERT"] * SEEN_BEFORE + ["EXECUTE"]
    assert len(names()) == 2 * (SEEN_BEFORE + 1)


@on_postgresql
def test_inside_a_transaction_nothing_is_prepared_that_could_fail_and_break_it():
    add_often()
    with transaction.atomic():
        assert sent(lambda: add("e_inside")) == ["INSERT"]


@on_postgresql
def test_what_the_database_refuses_is_raised_and_a_first_statement_with_it_undone():
    add_often()
    before = names()
    with pytest.raises(IntegrityError):
        add("e0", first="DELETE FROM flexmeter_environment WHERE name = 'e1'")
    assert names() == before
    add("e_new", first="DELETE FROM flexmeter_environment WHERE name = 'e1'")
    assert names() == before - {"e1"} | {"e_new"}


def test_single_events_count_once_whether_their_statement_is_kept_or_lost():
    make_meter("SUM", field="n")
    events = [make_event(f"e{number}", properties={"n": number}) for number in range(2 * SEEN_BEFORE + 6)]
    for number, event in enumerate(events):
        if number == SEEN_BEFORE + 4 and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("DEALLOCATE ALL")
        assert ingest([event]) == Ingested(stored=1)
        assert ingest([event]) == Ingested(repeated=1)
    assert list(verify()) == []
    assert Event.objects.count() == len(events)


@on_postgresql
def test_the_inbox_keeps_every_event_while_sessions_forget(settings, monkeypatch):
    settings.FLEXMETER_INGEST = "celery"
    monkeypatch.setattr("flexmeter.inbox.ring", lambda alias: None)
    for number in range(2 * SEEN_BEFORE + 2):
        if number == SEEN_BEFORE + 1:
            with connection.cursor() as cursor:
                cursor.execute("DEALLOCATE ALL")
        put([make_event(f"e{number}", properties={"text": "% %s ' \\ é"})], environment="default")
    assert backlog().events == 2 * SEEN_BEFORE + 2
    bodies = InboxBatch.objects.order_by("id").values_list("events", flat=True)
    assert [body[0]["event_id"] for body in bodies] == [f"e{number}" for number in range(2 * SEEN_BEFORE + 2)]
    assert all(body[0]["properties"] == {"text": "% %s ' \\ é"} for body in bodies)
