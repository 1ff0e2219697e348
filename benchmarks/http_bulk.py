"""POST /v1/events/bulk of 1,000 events, against Serializer(many=True) with bulk_create(ignore_conflicts=True) in DRF.

gunicorn with two workers serves both from one process each, on PostgreSQL; the peer's table is equal, it keeps no rollups
and authenticates nobody. Inline, 202 means counted by one meter; in inbox mode it means committed, and what waits is
drained between the rounds. Run: python -m benchmarks.http_bulk
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from benchmarks.peer.serving import bulk_bodies, check, post_all, project, served
from benchmarks.rounds import Outcome, compared, medians_told, report

from tests.e2e.processes import WebServer

EVENTS = 1_000
ROUNDS = 5
REQUESTS = {"peer": 25, "inline": 75, "inbox": 150}
"""In one round: a few seconds of each."""
AIM_INLINE = 3.0
AIM_INBOX = 10.0
PEER = "DRF's serializer and bulk_create"


def main() -> None:
    with project() as headers, served("inline") as inline, served("celery") as inbox:
        report(*outcomes(headers, inline, inbox))


def outcomes(headers: Mapping[str, str], inline: WebServer, inbox: WebServer) -> list[Outcome]:
    sent: Counter[str] = Counter()

    def rate(side: str, server: WebServer, path: str, headers: Mapping[str, str]) -> float:
        taken = post_all(server, path, bulk_bodies(REQUESTS[side], EVENTS), headers)
        sent[side] += REQUESTS[side] * EVENTS
        return REQUESTS[side] * EVENTS / taken

    def inbox_rate() -> float:
        reached = rate("inbox", inbox, "/v1/events/bulk", headers)
        count_waiting(REQUESTS["inbox"] * EVENTS)
        return reached

    counted, committed, limit = medians_told(
        lambda: rate("inline", inline, "/v1/events/bulk", headers),
        inbox_rate,
        lambda: rate("peer", inline, "/peer/events/bulk", {}),
        rounds=ROUNDS,
    )
    check(flexmeter=sent["inline"] + sent["inbox"], peer=sent["peer"])
    return [
        compared("http_bulk, inline", counted, limit, peer=PEER, aim=AIM_INLINE, events=sent["inline"]),
        compared("http_bulk, inbox", committed, limit, peer=PEER, aim=AIM_INBOX, events=sent["inbox"]),
    ]


def count_waiting(events: int) -> None:
    """Drain the inbox; raise unless so many events waited, all of them new."""
    from flexmeter import inbox

    drained = inbox.drain()
    if drained.ingested.stored != events or drained.events != events:
        raise RuntimeError(f"{events} events were acknowledged, the inbox gave {drained}.")


if __name__ == "__main__":
    main()
