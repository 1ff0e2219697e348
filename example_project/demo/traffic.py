"""The rows of the data files as usage events, ready for `POST /v1/events/bulk`.

Everything about an event follows from its file and the number of its row, so whoever sends the files again sends the same
events with the same ids.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

DATA = Path(__file__).resolve().parent.parent / "data"

LLM_REQUEST = "llm_request"
API_REQUEST = "api_request"

CUSTOMER_SHARES = (22, 16, 12, 10, 8, 7, 6, 5, 5, 4, 3, 2)
"""How many of a hundred requests each of the dozen customers makes."""
CUSTOMERS = tuple(f"customer-{number:02d}" for number in range(1, len(CUSTOMER_SHARES) + 1))
_TICKETS = tuple(customer for customer, share in zip(CUSTOMERS, CUSTOMER_SHARES, strict=True) for _ in range(share))

_COMBINED_FORMAT = re.compile(
    r'(?P<visitor>\S+) \S+ \S+ \[(?P<time>[^]]+)] "(?P<method>\S+) (?P<path>\S+) \S+" (?P<status>\d+) (?P<bytes>\d+|-)'
    r' "[^"]*" "(?P<user_agent>[^"]*)"?'
)


@dataclass(frozen=True, slots=True)
class Trace:
    """One data file, and what its rows are about; `model` is "" for requests that no model answered."""

    title: str
    filename: str
    source: str
    event_name: str
    rows: int
    model: str = ""

    @contextmanager
    def open(self) -> Iterator[TextIO]:
        with gzip.open(DATA / self.filename, "rt", encoding="utf-8", newline="") as lines:
            yield lines

    def events(self) -> Iterator[dict[str, Any]]:
        """The events in the order of their rows. Raises ValueError for a row that is not in the file's format."""
        return _llm_requests(self) if self.event_name == LLM_REQUEST else _api_requests(self)


CODE = Trace("code completion", "azure_llm_2023_code.csv.gz", "llm-code", LLM_REQUEST, rows=8_819, model="coder-1")
CHAT = Trace("chat", "azure_llm_2023_conv.csv.gz", "llm-chat", LLM_REQUEST, rows=19_366, model="chat-1")
SITE = Trace("web site", "apache_access_2015.log.gz", "web-site", API_REQUEST, rows=10_000)
TRACES = (CODE, CHAT, SITE)


def customer_of_row(row: int) -> str:
    """The customer of a row that names none. Neighbouring rows belong to different customers."""
    return _TICKETS[row * 37 % len(_TICKETS)]


def customer_of_visitor(visitor: str) -> str:
    """The customer on whose account a visitor like `visitor-e230fe463f` calls."""
    return _TICKETS[int(visitor.rpartition("-")[2], 16) % len(_TICKETS)]


def _llm_requests(trace: Trace) -> Iterator[dict[str, Any]]:
    with trace.open() as lines:
        for row, (time, prompt_tokens, completion_tokens) in enumerate(list(csv.reader(lines))[1:], start=1):
            yield {
                "event_id": f"{trace.source}-{row:05d}",
                "event_name": trace.event_name,
                "external_customer_id": customer_of_row(row),
                "timestamp": time.replace(" ", "T") + "Z",
                "source": trace.source,
                "properties": {
                    "model": trace.model,
                    "prompt_tokens": int(prompt_tokens),
                    "completion_tokens": int(completion_tokens),
                },
            }


def _api_requests(trace: Trace) -> Iterator[dict[str, Any]]:
    with trace.open() as lines:
        for row, line in enumerate(lines, start=1):
            request = _COMBINED_FORMAT.match(line)
            if request is None:
                raise ValueError(f"{trace.filename}, line {row}: not in Apache's combined format")
            time = datetime.strptime(request["time"], "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC)
            yield {
                "event_id": f"{trace.source}-{row:05d}",
                "event_name": trace.event_name,
                "external_customer_id": customer_of_visitor(request["visitor"]),
                "timestamp": f"{time:%Y-%m-%dT%H:%M:%SZ}",
                "source": trace.source,
                "properties": {
                    "visitor": request["visitor"],
                    "method": request["method"],
                    "path": request["path"],
                    "status": int(request["status"]),
                    "bytes": 0 if request["bytes"] == "-" else int(request["bytes"]),
                    "user_agent": request["user_agent"],
                },
            }
