"""Meters in the admin: every change goes through the services, after a look at what it would count."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import resolve
from hypothesis import given
from hypothesis import strategies as st

from flexmeter.admin.filter_lines import lines_of, parsed
from flexmeter.ingest import ingest
from flexmeter.maintenance.rebuild import restart
from flexmeter.maintenance.retention import prune
from flexmeter.maintenance.verification import verify
from flexmeter.meters import add_filters, archive_meter, delete_meter, unarchive_meter
from flexmeter.models import Meter, Rollup, Series, now
from flexmeter.usage import usage

from tests.factories import NOON, at, make_event, make_meter
from tests.hostile import HOSTILE
from tests.polling import within_one_hour

pytestmark = pytest.mark.django_db
LIST = "/admin/flexmeter/meter/"
ADD = LIST + "add/"
DEFINED = {
    "environment": "default", "name": "Tokens", "event_name": "tokens", "aggregation_type": "SUM", "field": "n",
    "expression": "", "multiplier": "", "bucket_size": "", "group_by": "", "filters": "kind = a", "reset_usage": "BILLING_PERIOD",
    "dimensions": "",
}  # fmt: skip


def page_of(meter, name="change"):
    return f"{LIST}{quote(meter.pk)}/{name}/"


def previewed(client, url, **changed):
    return client.post(url, {**DEFINED, **changed, "preview": "1"})


def saved(client, url, **changed):
    """The answer to pressing Preview, then Save."""
    seal = previewed(client, url, **changed).context_data["form"]["previewed"].value()
    return client.post(url, {**DEFINED, **changed, "previewed": seal, "save": "1"})


def staff(*codenames):
    user = User.objects.create_user("somebody", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def recent(count=6, **changed):
    within_one_hour()
    ingest(
        [
            make_event(
                f"event_{n}",
                timestamp=now() - timedelta(hours=n),
                accepted_at=now(),
                properties={"n": n, "kind": "ab"[n % 2]},
                **changed,
            )
            for n in range(count)
        ]
    )


def test_a_new_meter_is_tried_and_then_saved_by_the_service(admin_client, admin_user):
    recent()
    page = previewed(admin_client, ADD).content.decode()
    assert "Preview: nothing is saved yet" in page
    assert "Counted 2 as `n`" in page
    assert "filter `kind` is &quot;b&quot;, wanted &quot;a&quot;" in page
    assert not Meter.objects.exists()
    response = saved(admin_client, ADD)
    meter = Meter.objects.get()
    assert response.url == page_of(meter)
    assert (meter.name, meter.filters, meter.created_by) == ("Tokens", [{"key": "kind", "values": ["a"]}], "admin")
    assert meter.rollups_ready
    assert usage(meter=meter, start=now() - timedelta(days=1)).value == 6
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_id, entry.user) == (ADDITION, meter.pk, admin_user)


def test_nothing_is_saved_that_was_not_previewed(admin_client):
    response = admin_client.post(ADD, {**DEFINED, "save": "1"})
    assert "Preview: nothing is saved yet" in response.content.decode()
    seal = response.context_data["form"]["previewed"].value()
    changed = admin_client.post(ADD, {**DEFINED, "field": "m", "previewed": seal, "save": "1"})
    assert "What you saw is not what is to be saved" in changed.content.decode()
    assert not Meter.objects.exists()


def test_a_meter_that_somebody_changed_meanwhile_is_previewed_anew(admin_client):
    meter = make_meter("COUNT")
    seal = previewed(admin_client, page_of(meter)).context_data["form"]["previewed"].value()
    add_filters(meter.pk, [("kind", ["b"])], environment="default")
    admin_client.post(page_of(meter), {**DEFINED, "previewed": seal, "save": "1"})
    meter.refresh_from_db()
    assert meter.aggregation_type == "COUNT"


@pytest.mark.parametrize(("changed", "field", "told"), [
    ({"name": " "}, "name", "is required and must not be blank"),
    ({"event_name": ""}, "event_name", "is required and must not be blank"),
    ({"field": ""}, "field", "This aggregation needs a property or an expression."),
    ({"field": "", "expression": "1 +"}, "expression", "The expression is not valid"),
    ({"expression": "n"}, "expression", "Give a property or an expression, not both."),
    ({"aggregation_type": "COUNT_UNIQUE", "field": "", "expression": "n"}, "aggregation_type", "An expression needs SUM"),
    ({"aggregation_type": "SUM_WITH_MULTIPLIER"}, "multiplier", "This aggregation needs a multiplier."),
    ({"aggregation_type": "SUM_WITH_MULTIPLIER", "multiplier": "-1"}, "multiplier", "The multiplier must be greater than zero."),
    ({"aggregation_type": "SUM_WITH_MULTIPLIER", "multiplier": "much"}, "multiplier", "This is no number."),
    ({"aggregation_type": "AVG", "bucket_size": "DAY"}, "bucket_size", "Buckets go with SUM and MAX only."),
    ({"group_by": "host"}, "group_by", "Groups go with MAX in buckets only."),
    ({"filters": "kind a"}, "filters", "Line 1 is no filter"),
    ({"aggregation_type": "MEDIAN"}, "aggregation_type", "Select a valid choice"),
    ({"environment": ""}, "environment", "The environment"),
    ({"name": "x" * 300}, "name", "at most 255 characters"),
    ({"environment": "a\0"}, "environment", "a character that no event can hold"),
])  # fmt: skip
def test_what_cannot_be_a_meter_is_told_at_its_field(admin_client, changed, field, told):
    form = previewed(admin_client, ADD, **changed).context_data["form"]
    assert list(form.errors) == [field]
    assert told in str(form.errors[field])
    assert not Meter.objects.exists()


def test_a_change_goes_through_the_service_and_counts_anew(admin_client):
    recent()
    meter = make_meter("COUNT", name="Tokens")
    page = previewed(admin_client, page_of(meter)).content.decode()
    assert "Customers whose usage differs most" in page
    assert "Saving this counts past events anew." in page
    response = saved(admin_client, page_of(meter))
    assert response.url == page_of(meter)
    changed = Meter.objects.get()
    assert (changed.generation, changed.aggregation_type, changed.updated_by) == (2, "SUM", "admin")
    assert usage(meter=changed, start=now() - timedelta(days=1)).value == 6
    assert list(verify()) == []
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.change_message) == (CHANGE, "Changed Aggregation, Property, Only events with.")


def test_another_name_counts_nothing_anew(admin_client):
    recent()
    meter = make_meter("SUM", field="n", filters=(("kind", ("a",)),))
    page = previewed(admin_client, page_of(meter), name="Other").content.decode()
    assert "counts past events anew" not in page
    saved(admin_client, page_of(meter), name="Other")
    changed = Meter.objects.get()
    assert (changed.name, changed.generation, changed.rollups_ready) == ("Other", 1, True)


def test_a_change_after_pruning_says_what_is_lost(admin_client):
    recent()
    meter = make_meter("COUNT")
    prune(now() - timedelta(days=3), environment="default")
    assert "will not be known any more" in previewed(admin_client, page_of(meter)).content.decode()
    archive_meter(meter.pk, environment="default")
    assert "were removed by retention" in admin_client.get(page_of(meter, "unarchive")).content.decode()


def test_the_form_shows_the_meter_as_it_is(admin_client):
    filters = (("a=b", (" 7 ", "")), ('"', ("x\ny", "\u202e")), ("plain", ("value",)))
    meter = make_meter("MAX", field=" n ", bucket_size="DAY", group_by="g", filters=filters, name="<b>")
    form = admin_client.get(page_of(meter)).context_data["form"]
    given = {name: form[name].value() for name in form.fields if name != "previewed"}
    assert saved_as(given) == filters
    seal = admin_client.post(page_of(meter), {**given, "preview": "1"}).context_data["form"]["previewed"].value()
    admin_client.post(page_of(meter), {**given, "previewed": seal, "save": "1"})
    assert Meter.objects.get().generation == 1


def saved_as(given):
    return parsed(given["filters"].replace("\n", "\r\n"))


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@given(st.dictionaries(texts.filter(bool), st.lists(texts, min_size=1, max_size=3, unique=True), max_size=3))
def test_filter_lines_say_what_was_meant_whatever_it_was(filters):
    pairs = tuple((key, tuple(values)) for key, values in filters.items())
    assert parsed(lines_of(pairs).replace("\n", "\r\n")) == pairs


def test_the_list_shows_what_meters_counted_lately_with_one_query_for_all(
    admin_client, django_assert_num_queries, django_assert_max_num_queries
):
    recent(30)
    meters = [make_meter("COUNT", name=f"meter {n}", filters=(("kind", ("ab"[n % 2],)),)) for n in range(2)]
    response = admin_client.get(LIST)
    shown = {meter.pk: sum(meter.counted_lately) for meter in response.context_data["cl"].result_list}
    expected = {meter.pk: usage(meter=meter, start=lately(), end=lately() + timedelta(hours=24)).value for meter in meters}
    assert shown == expected
    assert len(re.findall('class="fm-spark"', response.content.decode())) == 2
    with django_assert_max_num_queries(8) as few:
        admin_client.get(LIST)
    for n in range(20):
        make_meter("SUM", field="n", name=f"other {n}")
    with django_assert_num_queries(len(few)):
        admin_client.get(LIST)


def lately():
    return now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)


def test_counts_of_an_older_rule_are_not_shown(admin_client):
    recent(2)
    meter = make_meter("COUNT")
    restart(meter.pk)
    [listed] = admin_client.get(LIST).context_data["cl"].result_list
    assert sum(listed.counted_lately) == 0
    assert "past events 0 %" in admin_client.get(LIST).content.decode()


def test_the_list_is_narrowed_and_leaves_deleted_meters_out(admin_client):
    first, second, third = (make_meter("COUNT", name=f"meter {n}", event_name=f"event {n}") for n in range(3))
    archive_meter(second.pk, environment="default")
    delete_meter(third.pk, environment="default")
    make_meter("COUNT", environment="other")

    def listed(**query):
        return [meter.pk for meter in admin_client.get(LIST, {"environment": "default", **query}).context_data["cl"].result_list]

    assert listed() == [first.pk, second.pk]
    assert listed(status="archived") == [second.pk]
    assert listed(status="building") == []
    assert listed(event_name="event 0") == [first.pk]


def test_archiving_and_unarchiving_go_through_the_services(admin_client):
    ingest([make_event("before")])
    meter = make_meter("COUNT")
    assert "Archive" in admin_client.get(page_of(meter, "archive")).content.decode()
    assert Meter.objects.get().status == "published"
    admin_client.post(page_of(meter, "archive"))
    archived = Meter.objects.get()
    assert (archived.status, archived.updated_by) == ("archived", "admin")
    ingest([make_event("while", accepted_at=archived.archived_at + timedelta(seconds=1))])
    assert counted(archived) == 1
    admin_client.post(page_of(meter, "unarchive"))
    back = Meter.objects.get()
    assert (back.status, back.archived_at, back.rollups_ready) == ("published", None, True)
    assert counted(back) == 2
    assert list(verify()) == []
    assert list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True)) == ["Archived.", "Unarchived."]


def counted(meter):
    return usage(meter=meter, start=at("2024-03-01 00:00"), end=at("2024-04-01 00:00")).value


def test_unarchiving_a_published_meter_changes_nothing():
    meter = make_meter("COUNT")
    assert unarchive_meter(meter.pk, environment="default").generation == 1


def test_a_deleted_meter_is_gone_with_what_it_counted(admin_client):
    ingest([make_event()])
    meter = make_meter("COUNT", name="Gone")
    other = make_meter("SUM", field="n")
    assert Meter.objects.get(pk=meter.pk).status == "published"
    assert "gone for good" in admin_client.get(page_of(meter, "delete")).content.decode()
    admin_client.post(page_of(meter, "delete"))
    assert set(Series.objects.values_list("meter_id", flat=True)) == {other.pk}
    assert set(Rollup.objects.values_list("series__meter_id", flat=True)) == {other.pk}
    ingest([make_event("later"), make_event(properties={"n": 5}, accepted_at=NOON + timedelta(days=1))])
    assert set(Series.objects.values_list("meter_id", flat=True)) == {other.pk}
    assert list(verify()) == []
    assert admin_client.get(page_of(meter)).status_code == 404
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_id, entry.object_repr) == (DELETION, meter.pk, "Gone")


def test_past_events_are_counted_in_bounded_steps(admin_client, settings, monkeypatch):
    ingest([make_event(f"event_{n}", external_customer_id=f"c{n}") for n in range(6)])
    meter = make_meter("COUNT")
    restart(meter.pk)
    settings.FLEXMETER_REBUILD_CHUNK_EVENTS = 2
    monkeypatch.setattr("flexmeter.admin.meters.SECONDS_OF_A_REQUEST", 0.0)
    page = page_of(meter, "rebuild")
    assert "Not begun yet" in admin_client.get(page).content.decode()
    parts = []
    for step in range(4):
        response = admin_client.post(page, {"go-on" if step else "begin": "1"})
        part = admin_client.get(response.url)
        parts.append(re.findall(r"(\d+) of (\d+) events", part.content.decode()))
        if step < 3:
            assert response.url == f"{page}?counting=1"
            assert "data-counting" in part.content.decode()
    assert parts == [[("2", "6")], [("4", "6")], [("6", "6")], []]
    assert response.url == page
    assert Meter.objects.get().rollups_ready
    assert list(LogEntry.objects.values_list("change_message", flat=True)) == ["Had its past events counted."]
    assert list(verify()) == []


def test_all_can_be_counted_anew(admin_client):
    ingest([make_event()])
    meter = make_meter("COUNT")
    Rollup.objects.update(count=7)
    assert counted(meter) == 7
    admin_client.post(page_of(meter, "rebuild"), {"restart": "1"})
    assert counted(Meter.objects.get()) == 1
    assert LogEntry.objects.get().change_message == "Had its past events counted anew."


def test_a_large_change_leads_to_where_it_is_counted(admin_client, settings):
    settings.FLEXMETER_REBUILD_INLINE_EVENTS = 0
    recent()
    response = saved(admin_client, ADD)
    assert response.url == page_of(Meter.objects.get(), "rebuild")


CHANGES = ["archive", "unarchive", "delete", "rebuild"]


def test_who_may_only_look_can_do_nothing(viewer):
    meter = make_meter("COUNT")
    page = viewer.get(page_of(meter)).content.decode()
    assert "<form" not in page[page.index('id="content"') :]
    assert not re.search("|".join(f"/{name}/" for name in ("archive", "delete", "rebuild")), page)
    assert viewer.post(page_of(meter), DEFINED).status_code == 403
    assert viewer.get(ADD).status_code == viewer.post(ADD, DEFINED).status_code == 403
    assert {viewer.post(page_of(meter, name)).status_code for name in CHANGES} == {403}
    assert {viewer.get(page_of(meter, name)).status_code for name in ("archive", "unarchive", "delete")} == {403}
    assert viewer.get(page_of(meter, "rebuild")).status_code == 200
    assert viewer.get(LIST).status_code == 200
    assert Meter.objects.get().status == "published"


def test_each_action_needs_its_own_permission():
    meter = make_meter("COUNT")
    client = staff("view_meter", "change_meter")
    assert client.get(page_of(meter)).status_code == 200
    assert client.post(page_of(meter, "archive")).status_code == 302
    assert client.post(page_of(meter, "delete")).status_code == 403
    assert client.get(ADD).status_code == 403
    User.objects.all().delete()
    adding = staff("add_meter")
    assert adding.get(ADD).status_code == 200
    assert adding.get(page_of(meter)).status_code == 403
    assert adding.post(page_of(meter, "unarchive")).status_code == 403


def test_a_preview_shows_events_only_to_who_may_see_them():
    recent()
    client = staff("view_meter", "add_meter")
    page = previewed(client, ADD).content.decode()
    assert "Preview: nothing is saved yet" in page
    assert "event_0" not in page


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_escaped_everywhere_and_saved_as_it_is(admin_client, text):
    kept = text.strip()
    recent(2, event_name=kept, external_customer_id=text)
    definition = {"name": text, "event_name": text, "aggregation_type": "COUNT_UNIQUE", "field": text}
    definition["filters"] = lines_of([(text, (text, "a"))])
    pages = [previewed(admin_client, ADD, **definition)]
    saved(admin_client, ADD, **definition)
    meter = Meter.objects.get()
    assert (meter.name, meter.event_name, meter.field) == (text, kept, text)
    assert meter.filters == [{"key": text, "values": [text, "a"]}]
    pages += [
        admin_client.get(page_of(meter, name)) for name in ("change", "archive", "unarchive", "delete", "rebuild", "history")
    ]
    pages.append(admin_client.get(LIST))
    for page in pages:
        assert page.status_code == 200
        content = page.content.decode()
        content = content[content.index('id="content"') :]
        assert not re.search(r"<script(?![^>]*src=)|<style|<img src=x|<svg onload|<[a-z]+\s[^>\"]*\son[a-z]+=", content)


@pytest.mark.parametrize("name", ["add", "change", "archive", "unarchive", "delete", "rebuild"])
def test_services_have_transactions_of_their_own_even_with_atomic_requests(name):
    meter = Meter(pk="meter_x")
    view = resolve(ADD if name == "add" else page_of(meter, name)).func
    assert "default" in view._non_atomic_requests


def test_what_the_pages_ask_the_database(admin_client, django_assert_max_num_queries):
    recent()
    meter = make_meter("COUNT")
    admin_client.get(page_of(meter))
    with django_assert_max_num_queries(8):
        admin_client.get(page_of(meter))
    with django_assert_max_num_queries(11):
        previewed(admin_client, page_of(meter))
    with django_assert_max_num_queries(5):
        admin_client.get(page_of(meter, "rebuild"))


def test_dimensions_are_written_in_lines(admin_client):
    saved(admin_client, ADD, dimensions='region\r\n" odd "\n\n')
    meter = Meter.objects.get()
    assert meter.dimensions == ["region", " odd "]
    form = admin_client.get(page_of(meter)).context_data["form"]
    assert form["dimensions"].value() == 'region\n" odd "'
    saved(admin_client, page_of(meter), dimensions="model")
    meter.refresh_from_db()
    assert meter.dimensions == ["model"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a\na", "a property of its own"),
        ("a\nb\nc\nd", "At most 3 properties"),
        ('"a" b', "Write a property in each line"),
        ("x" * 256, "at most 255 characters"),
    ],
)
def test_lines_that_are_no_dimensions_are_told_of(admin_client, lines, said):
    form = previewed(admin_client, ADD, dimensions=lines).context_data["form"]
    assert said in str(form.errors["dimensions"])
    assert not Meter.objects.exists()


@pytest.mark.parametrize("lines", HOSTILE)
def test_hostile_dimensions_break_no_page(admin_client, lines):
    assert previewed(admin_client, ADD, dimensions=str(lines)).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_the_page_says_when_combinations_are_not_kept_apart(admin_client, settings):
    settings.FLEXMETER_MAX_DIMENSION_GROUPS = 1
    meter = make_meter("SUM", field="n", dimensions=("region",))
    ingest([make_event(f"event_{number}", properties={"region": str(number)}) for number in range(3)])
    page = admin_client.get(page_of(meter)).content.decode()
    assert "not for all customers since" in page
    assert "FLEXMETER_MAX_DIMENSION_GROUPS" in page
