"""POST /v1/events, counted when it answers, against DRF's serializer with objects.create() into an equal table.

gunicorn with two workers serves both, on PostgreSQL, one meter; the peer keeps no rollups and authenticates nobody. A third
view of DRF's shows the limit: it inserts one bare row of what was sent, and does nothing else.
Run: python -m benchmarks.http_single
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.peer.serving import check, post_all, project, served, single_bodies
from benchmarks.rounds import Outcome, compared, medians_told, report

from tests.e2e.processes import WebServer

REQUESTS = 1_500
ROUNDS = 7
AIM = 1.5


def main() -> None:
    with project() as headers, served("inline") as server:
        report(outcome(headers, server))


def outcome(headers: Mapping[str, str], server: WebServer) -> Outcome:
    rate, limit, bare = medians_told(
        lambda: REQUESTS / post_all(server, "/v1/events", single_bodies(REQUESTS), headers),
        lambda: REQUESTS / post_all(server, "/peer/events", single_bodies(REQUESTS)),
        lambda: REQUESTS / post_all(server, "/peer/rows", single_bodies(REQUESTS)),
        rounds=ROUNDS,
    )
    sent = REQUESTS * (ROUNDS + 1)
    check(flexmeter=sent, peer=sent)
    peer = f"(a bare row: {bare / limit:.2f} times) DRF's serializer and objects.create()"
    return compared("http_single, inline", rate, limit, peer=peer, aim=AIM, unit="requests/s", requests=sent, bare_rate=bare)


if __name__ == "__main__":
    main()
