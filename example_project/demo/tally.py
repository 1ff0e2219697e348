"""What the data files hold, counted by other means than the API's: plain integers over the raw lines, no flexmeter.

Only who a row's customer is and what its model is called come from `demo.traffic`, because the files do not say it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from demo.traffic import CHAT, CODE, SITE, Trace, customer_of_row, customer_of_visitor


@dataclass(slots=True)
class TokenTally:
    """LLM requests of one model or customer."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def weighted_tokens(self) -> int:
        return self.prompt_tokens + 3 * self.completion_tokens

    def add(self, prompt_tokens: int, completion_tokens: int) -> None:
        self.requests += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens


@dataclass(slots=True)
class SiteTally:
    """Requests of the access log on one UTC day, or on all of them."""

    requests: int = 0
    visitors: set[str] = field(default_factory=set)
    bytes: int = 0
    largest: dict[datetime, int] = field(default_factory=dict)

    def add(self, visitor: str, size: int, hour: datetime) -> None:
        self.requests += 1
        self.visitors.add(visitor)
        self.bytes += size
        self.largest[hour] = max(size, self.largest.get(hour, 0))


@dataclass(slots=True)
class Tally:
    """Days and hours are named by their start, in UTC."""

    by_model: dict[str, TokenTally] = field(default_factory=dict)
    by_customer: dict[str, TokenTally] = field(default_factory=dict)
    by_day: dict[datetime, SiteTally] = field(default_factory=dict)
    site: SiteTally = field(default_factory=SiteTally)
    requests_by_hour: Counter[datetime] = field(default_factory=Counter)
    by_customer_and_model: dict[tuple[str, str], TokenTally] = field(default_factory=dict)
    site_requests_by_customer: Counter[str] = field(default_factory=Counter)


def tally_of_files() -> Tally:
    tally = Tally()
    for trace in (CODE, CHAT):
        _count_tokens(trace, tally)
    _count_site(tally)
    return tally


def _count_tokens(trace: Trace, tally: Tally) -> None:
    with trace.open() as lines:
        next(lines)
        for row, line in enumerate(lines, start=1):
            _, prompt, completion = line.split(",")
            customer = customer_of_row(row)
            for counted in (
                tally.by_model.setdefault(trace.model, TokenTally()),
                tally.by_customer.setdefault(customer, TokenTally()),
                tally.by_customer_and_model.setdefault((customer, trace.model), TokenTally()),
            ):
                counted.add(int(prompt), int(completion))


def _count_site(tally: Tally) -> None:
    with SITE.open() as lines:
        for line in lines:
            head, _, tail, *_ = line.split('"')
            visitor, _, _, date, _ = head.split()
            size = tail.split()[1]
            hour = datetime.strptime(date[1:15], "%d/%b/%Y:%H").replace(tzinfo=UTC)
            tally.requests_by_hour[hour] += 1
            tally.site_requests_by_customer[customer_of_visitor(visitor)] += 1
            for whole in (tally.site, tally.by_day.setdefault(hour.replace(hour=0), SiteTally())):
                whole.add(visitor, 0 if size == "-" else int(size), hour)
