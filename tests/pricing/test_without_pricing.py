"""Without `flexmeter.pricing` in INSTALLED_APPS every operation answers, only without money. A process of its own shows it.

Its database is made from nothing, and gets the tables of pricing afterwards, as in a project that installs it later.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.http.client import make_meter
from tests.http.operations import OPERATIONS

ROOT = Path(__file__).resolve().parents[2]
ALONE, BOTH = "tests.pricing.without_pricing", "tests.settings"
CALLS = """
import json, sys
import django
django.setup()
from django.apps import apps
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_test_environment
from flexmeter.keys import create_key

call_command("migrate", verbosity=0)
call_command("check", "--fail-level=ERROR")
call_command("makemigrations", "--check", "--dry-run", verbosity=0)
setup_test_environment()
headers = {"x-api-key": create_key("test", environment="main").secret}
answers = {"installed": apps.is_installed("flexmeter.pricing")}
meter = ""
for name, method, path, body in json.load(sys.stdin):
    sent = json.dumps(body | {"meter_id": meter} if "meter_id" in body else body) if isinstance(body, dict) else ""
    path = "/v1" + path.replace("{meter}", meter)
    response = Client().generic(method, path, sent, content_type="application/json", headers=headers)
    answers[name] = [response.status_code, response.json()]
    meter = meter or response.json().get("id", "")
print(json.dumps(answers))
"""
TABLES = """
import django
django.setup()
from django.db import connection
print("\\n".join(connection.introspection.table_names()))
"""


class Project:
    """A project with a SQLite database of its own."""

    def __init__(self, directory: Path) -> None:
        self.url = f"sqlite:///{directory / 'alone.sqlite3'}"

    def run(self, settings: str, *arguments: str, given: str = "") -> str:
        environment = os.environ | {"DATABASE_URL": self.url, "DJANGO_SETTINGS_MODULE": settings, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            input=given, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=480,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tables(self) -> set[str]:
        return {name for name in self.run(BOTH, "-c", TABLES).split() if name.startswith("flexmeter_pricing_")}

    def answers(self, settings: str, calls: list[tuple[str, str, str, Any]]) -> dict[str, Any]:
        return json.loads(self.run(settings, "-c", CALLS, given=json.dumps(calls)).splitlines()[-1])


EVENT = {"event_id": "e1", "event_name": "api_request", "external_customer_id": "acme", "timestamp": "2025-06-02T09:10:00Z"}
JUNE = {"start_time": "2025-06-01T00:00:00Z", "end_time": "2025-07-01T00:00:00Z"}
PRICED = JUNE | {"external_customer_id": "acme", "expand": ["price", "feature", "plan", "subscription_line_item"]}
SETUP = [
    ("new meter", "POST", "/meters", make_meter("COUNT", name="Calls")),
    ("new event", "POST", "/events", EVENT),
    ("priced", "POST", "/events/analytics", PRICED),
    ("by feature", "POST", "/events/analytics", JUNE | {"feature_ids": ["feat_x"], "include_children": True}),
    ("no ids", "POST", "/events/huggingface-inference", None),
]
PRICING = [(path, "GET", f"/{path}", None) for path in ("customers", "features", "plans", "prices", "subscriptions", "coupons")]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("alone"))


def test_every_operation_answers_without_prices_and_pricing_can_be_installed_later(project: Project):
    operations = [(each.name, each.method, each.path, each.body if isinstance(each.body, dict) else None) for each in OPERATIONS]
    answers = project.answers(ALONE, [*SETUP, *operations, *PRICING])
    assert answers["installed"] is False
    assert {each.name: answers[each.name][0] for each in OPERATIONS} == {each.name: each.status for each in OPERATIONS}
    for name, _, _, _ in PRICING:
        assert answers[name][0] == 404, name
    status, analytics = answers["priced"]
    assert (status, analytics["total_cost"], analytics["subtotal"], analytics["currency"]) == (200, "0", "0", "")
    [item] = analytics["items"]
    assert (item["name"], item["total_usage"], item["total_cost"]) == ("Calls", "1", "0")
    assert [item[name] for name in ("price", "feature", "plan", "subscription_line_item", "commitment_info")] == [None] * 5
    assert (answers["by feature"][1]["items"], answers["no ids"]) == ([], [200, {"requests": []}])
    for name in ("inference", "inference alias"):
        assert answers[name] == [200, {"requests": [{"requestId": "e1", "costNanoUsd": "0"}]}]
    for name in ("lookup", "event"):
        found = answers[name][1]
        assert (found["status"], found["debug_tracker"], found["processed_events"][0]["price_id"]) == ("processed", None, "")
    assert project.tables() == set()

    answers = project.answers(BOTH, [("again", "POST", "/events/analytics", PRICED), ("lookup", *LOOKUP), *PRICING])
    assert answers["installed"] is True
    assert [answers[name][0] for name, _, _, _ in PRICING] == [200] * len(PRICING)
    assert [(item["name"], item["total_cost"], item["price"]) for item in answers["again"][1]["items"]] == [("Size", "0", None)]
    assert answers["lookup"][1]["debug_tracker"]["failure_point"]["failure_point_type"] == "customer_lookup"
    assert len(project.tables()) == 8


LOOKUP = ("GET", "/events/lookup?id=e1", None)


def test_the_migrations_of_pricing_go_back_to_nothing_and_up_again(tmp_path: Path):
    project = Project(tmp_path)
    manage = ("-m", "django", "migrate", "--verbosity=0")
    project.run(BOTH, *manage)
    made = project.tables()
    assert len(made) == 8
    project.run(BOTH, *manage, "flexmeter_pricing", "zero")
    assert project.tables() == set()
    project.run(BOTH, *manage)
    assert project.tables() == made
