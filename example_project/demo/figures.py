"""Questions the demo asks the API, and its answers beside what the files hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from demo import meters
from demo.client import Client
from demo.price_list import KEYS, owed
from demo.tally import SiteTally, Tally, TokenTally
from demo.traffic import API_REQUEST, CUSTOMERS

LLM_DAY = {"start_time": "2023-11-16T00:00:00Z", "end_time": "2023-11-17T00:00:00Z"}
SITE_DAYS = {"start_time": "2015-05-17T00:00:00Z", "end_time": "2015-05-21T00:00:00Z"}
EVERYTHING = {"start_time": SITE_DAYS["start_time"], "end_time": LLM_DAY["end_time"]}
BERLIN = ZoneInfo("Europe/Berlin")
BERLIN_DAY = datetime(2015, 5, 19, tzinfo=BERLIN)

ANALYTICS = "/v1/events/analytics"
USAGE = "/v1/events/usage"
METER_USAGE = "/v1/events/usage/meter"

TOKEN_METERS: Mapping[str, Callable[[TokenTally], int]] = {
    meters.LLM_REQUESTS: lambda tally: tally.requests,
    meters.PROMPT_TOKENS: lambda tally: tally.prompt_tokens,
    meters.COMPLETION_TOKENS: lambda tally: tally.completion_tokens,
    meters.WEIGHTED_TOKENS: lambda tally: tally.weighted_tokens,
}
SITE_METERS: Mapping[str, Callable[[SiteTally], int]] = {
    meters.SITE_REQUESTS: lambda tally: tally.requests,
    meters.SITE_VISITORS: lambda tally: len(tally.visitors),
    meters.SITE_BANDWIDTH: lambda tally: tally.bytes,
}

Numbers = dict[tuple[str, str], Decimal | int]
"""Numbers by what they count and what they are about."""


def json_lines(body: Mapping[str, Any], width: int = 90) -> list[str]:
    """`body` as lines of JSON, none of which breaks a member in two."""
    members = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in body.items()]
    lines = ["{" + members[0]]
    for member in members[1:]:
        if len(lines[-1]) + len(member) + 3 <= width:
            lines[-1] += f", {member}"
        else:
            lines[-1] += ","
            lines.append(f" {member}")
    return [*lines[:-1], lines[-1] + "}"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One question: where and with which body it was asked, the answer as text, and its numbers as counted from the files."""

    title: str
    asked: str
    body: Mapping[str, Any]
    lines: Sequence[str]
    answered: Numbers
    held: Numbers

    def differences(self) -> list[str]:
        """What the API and the files do not agree on; empty if they do."""
        return [
            f"{self.title}, {about}, {name}: the API says {self.answered.get((about, name), 'nothing')}, "
            f"the files {self.held.get((about, name), 'nothing')}"
            for about, name in sorted(self.answered.keys() | self.held.keys())
            if self.answered.get((about, name)) != self.held.get((about, name))
        ]


def tokens_by_model(client: Client, ids: Mapping[str, str], tally: Tally) -> Figure:
    body = {**LLM_DAY, "group_by": ["properties.model"]}
    answered: Numbers = {
        (item["properties"].get("model", ""), name): Decimal(item["total_usage"])
        for name, item in _items(client.post(ANALYTICS, body), ids)
    }
    held = _expected(tally.by_model, TOKEN_METERS)
    header = ["model", "requests", "prompt tokens", "completion tokens", "prompt + 3 × completion"]
    lines = _table(header, _rows(answered, sorted(tally.by_model), TOKEN_METERS))
    return Figure("Tokens by model", f"POST {ANALYTICS}", body, lines, answered, held)


def largest_customers(client: Client, ids: Mapping[str, str], tally: Tally, *, shown: int = 5) -> Figure:
    answered: Numbers = {}
    for customer in tally.by_customer:
        for name in TOKEN_METERS:
            body = {**LLM_DAY, "external_customer_id": customer, "meter_id": ids[name]}
            answered[customer, name] = client.post(METER_USAGE, body)["value"]
    held = _expected(tally.by_customer, TOKEN_METERS)
    weight = {customer: answered.get((customer, meters.WEIGHTED_TOKENS), 0) for customer in tally.by_customer}
    first = sorted(weight, key=lambda customer: (-weight[customer], customer))[:shown]
    whole = sum(weight.values()) or 1
    rows = _rows(answered, first, TOKEN_METERS)
    lines = _table(
        ["customer", "requests", "prompt tokens", "completion tokens", "prompt + 3 × completion", "share"],
        [[*row, f"{weight[row[0]] / whole:.1%}"] for row in rows],
    )
    body = {**LLM_DAY, "external_customer_id": first[0], "meter_id": ids[meters.WEIGHTED_TOKENS]}
    asked = f"POST {METER_USAGE}, once for each customer and meter"
    return Figure(f"The {shown} largest of {len(weight)} customers", asked, body, lines, answered, held)


def requests_by_hour(client: Client, ids: Mapping[str, str], tally: Tally) -> Figure:
    end = BERLIN_DAY + timedelta(days=1)
    body = {
        "event_name": API_REQUEST,
        "aggregation_type": "COUNT",
        "window_size": "HOUR",
        "timezone": BERLIN.key,
        "start_time": BERLIN_DAY.isoformat(),
        "end_time": end.isoformat(),
    }
    hours = {
        datetime.fromisoformat(point["window_size"]).astimezone(BERLIN): int(point["value"])
        for point in client.post(USAGE, body)["results"]
    }
    held: Numbers = {
        (f"{hour.astimezone(BERLIN):%H:%M}", "requests"): count
        for hour, count in tally.requests_by_hour.items()
        if BERLIN_DAY <= hour < end
    }
    lines = []
    if hours:
        busiest, quietest = max(hours, key=lambda hour: hours[hour]), min(hours, key=lambda hour: hours[hour])
        lines = [
            f"{min(hours):%H:%M} {_sparkline(hours[hour] for hour in sorted(hours))} {max(hours):%H:%M}"
            f"   most {hours[busiest]:,} at {busiest:%H:%M}, least {hours[quietest]:,} at {quietest:%H:%M}"
        ]
    answered: Numbers = {(f"{hour:%H:%M}", "requests"): count for hour, count in hours.items()}
    return Figure(f"Requests by the hour in Berlin, {BERLIN_DAY:%d %B %Y}", f"POST {USAGE}", body, lines, answered, held)


def site_by_day(client: Client, ids: Mapping[str, str], tally: Tally) -> Figure:
    body = {**SITE_DAYS, "window_size": "DAY"}
    answered: Numbers = {}
    for name, item in _items(client.post(ANALYTICS, body), ids):
        if name in SITE_METERS:
            answered["all days", name] = Decimal(item["total_usage"])
            for point in item["points"]:
                answered[point["timestamp"][:10], name] = Decimal(point["usage"])
    days = {f"{day:%Y-%m-%d}": counted for day, counted in sorted(tally.by_day.items())} | {"all days": tally.site}
    lines = _table(["day", "requests", "unique visitors", "bytes"], _rows(answered, days, SITE_METERS))
    return Figure("The web site by day", f"POST {ANALYTICS}", body, lines, answered, _expected(days, SITE_METERS))


def largest_responses(client: Client, ids: Mapping[str, str], tally: Tally) -> Figure:
    body = {**SITE_DAYS, "meter_id": ids[meters.SITE_PEAKS]}
    answer = client.post(METER_USAGE, body)
    answered: Numbers = {("all hours", "added up"): answer["value"]}
    for point in answer["results"]:
        answered[f"{datetime.fromisoformat(point['window_size']):%Y-%m-%d %H:%M}", "largest response"] = point["value"]
    held: Numbers = {("all hours", "added up"): sum(tally.site.largest.values())}
    held |= {(f"{hour:%Y-%m-%d %H:%M}", "largest response"): size for hour, size in tally.site.largest.items()}
    lines = [f"{len(answer['results'])} hours, {answer['value']:,} bytes"]
    return Figure("The largest response of every hour, added up", f"POST {METER_USAGE}", body, lines, answered, held)


def owed_by_customers(client: Client, ids: Mapping[str, str], tally: Tally) -> Figure:
    answered: Numbers = {}
    held: Numbers = {}
    workings: dict[str, list[str]] = {}
    for customer in CUSTOMERS:
        body = {**EVERYTHING, "external_customer_id": customer, "expand": ["price"]}
        answer = client.post(ANALYTICS, body)
        answered[customer, "in all"] = Decimal(answer["total_cost"])
        priced = {item["price"]["lookup_key"]: item for item in answer["items"] if item["price"]}
        for key in KEYS:
            answered[customer, key] = Decimal(priced[key]["total_cost"]) if key in priced else Decimal(0)
        workings[customer] = [line for key in KEYS if key in priced for line in _working(priced[key])]
        expected = owed(tally, customer)
        held |= {(customer, key): amount for key, amount in expected.items()}
        held[customer, "in all"] = sum(expected.values(), Decimal(0))
    rows = [[customer, *(f"{answered[customer, key]:,.4f}" for key in (*KEYS, "in all"))] for customer in CUSTOMERS]
    header = ["USD", *(_column(key) for key in KEYS), "in all"]
    first = max(CUSTOMERS, key=lambda customer: answered[customer, "in all"])
    lines = [*_table(header, rows), "", f"How that of {first} comes about:", *workings[first]]
    body = {**EVERYTHING, "external_customer_id": first, "expand": ["price"]}
    return Figure("What each customer owes", f"POST {ANALYTICS}, once for each customer", body, lines, answered, held)


def _column(key: str) -> str:
    """`chat-1-prompt-tokens` as `chat-1 in`."""
    return key.replace("-prompt-tokens", " in").replace("-completion-tokens", " out").replace("-", " ", key.startswith("api"))


def _working(item: Mapping[str, Any]) -> list[str]:
    """How usage becomes money, by the price that the answer shows."""
    price, usage = item["price"], int(item["total_usage"])
    if not price["tiers"]:
        return [f"  {item['name']}: {usage:,} × {price['amount']} = {item['total_cost']}"]
    steps, lower = [], 0
    for tier in price["tiers"]:
        upper = usage if tier["up_to"] is None else min(usage, tier["up_to"])
        if upper > lower:
            steps.append(f"{upper - lower:,} × {tier['unit_amount']}")
        lower = max(lower, upper)
    return [f"  {item['name']}: {' + '.join(steps)} = {item['total_cost']}"]


FIGURES = (tokens_by_model, largest_customers, requests_by_hour, site_by_day, largest_responses, owed_by_customers)


def stored_events(client: Client) -> int:
    """How many events there are, from the first of the files to the last."""
    return int(client.get("/v1/events/monitoring", EVERYTHING)["total_count"])


def _items(answer: Mapping[str, Any], ids: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """The items of the demo's own meters, with the meter's name."""
    names = {meter_id: name for name, meter_id in ids.items()}
    return [(names[item["meter_id"]], item) for item in answer["items"] if item["meter_id"] in names]


def _expected(tallies: Mapping[str, Any], measures: Mapping[str, Callable[[Any], int]]) -> Numbers:
    return {(about, name): count(tally) for about, tally in tallies.items() for name, count in measures.items()}


def _rows(numbers: Numbers, keys: Iterable[str], names: Iterable[str]) -> list[list[str]]:
    names = list(names)
    return [[key, *(f"{numbers.get((key, name), 0):,}" for name in names)] for key in keys]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, the first column flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "   ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
        for row in [header, *rows]
    ]


def _sparkline(values: Iterable[int]) -> str:
    values = list(values)
    least, most = min(values), max(values)
    return "".join("▁▂▃▄▅▆▇█"[(value - least) * 7 // max(most - least, 1)] for value in values)
