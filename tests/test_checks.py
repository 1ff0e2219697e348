"""A wrong setting is told at start, with the way out."""

import pytest
from django.db import connections

from flexmeter.checks import check_databases, check_settings
from flexmeter.conf import declared


def ids(messages):
    return [message.id for message in messages]


def test_the_settings_as_shipped_are_right():
    assert check_settings() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_BULK_EVENTS", 0),
        ("MAX_BULK_EVENTS", True),
        ("MAX_BULK_EVENTS", "1000"),
        ("WEEK_STARTS", "tuesday"),
        ("REPEATED_EVENT", None),
        ("REQUESTS_PER_MINUTE", 0),
    ],
)
def test_a_setting_of_the_wrong_kind_is_an_error_that_says_what_it_is_for(settings, name, value):
    setattr(settings, "FLEXMETER_" + name, value)
    [message] = check_settings()
    assert message.id == "flexmeter.E001"
    assert repr(value) in message.msg
    assert message.hint


def test_a_misspelt_setting_is_told(settings):
    settings.FLEXMETER_MAX_BULK_EVENT = 5
    assert ids(check_settings()) == ["flexmeter.W001"]


def test_every_setting_accepts_its_own_default():
    assert [setting.name for setting in declared() if not setting.accepts(setting.default)] == []


def test_the_test_database_is_set_up_as_recommended():
    assert ids(check_databases()) == []


@pytest.mark.only_on("sqlite")
def test_sqlite_without_immediate_transactions_or_wal_is_told(monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {})
    assert ids(check_databases()) == ["flexmeter.W002", "flexmeter.W003"]


@pytest.mark.only_on("mariadb")
def test_another_isolation_level_is_an_error(monkeypatch):
    options = connections["default"].settings_dict["OPTIONS"] | {"isolation_level": "repeatable read"}
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)
    assert ids(check_databases()) == ["flexmeter.E003"]


def test_naive_times_are_refused(settings):
    settings.USE_TZ = False
    assert "flexmeter.E002" in ids(check_databases())
