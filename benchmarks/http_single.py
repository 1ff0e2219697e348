"""POST /v1/events, counted when it answers, against DRF's serializer with objects.create() into an equal table.

gunicorn with two workers serves both, on PostgreSQL, one meter; the peer keeps no rollups and authenticates nobody. A third
view of DRF's shows the limit: it inserts one bare row of what was sent, and does nothing else. Where the time goes is told
by the processor time of each side's processes. Run: python -m benchmarks.http_single
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.peer.serving import check, post_all, project, served, single_bodies
from benchmarks.processor import Spent, postmaster
from benchmarks.rounds import Outcome, compared, medians_told, report

from tests.e2e.processes import WebServer

REQUESTS = 1_500
ROUNDS = 7
AIM = 1.5


def main() -> None:
    with project() as headers, served("inline") as server:
        report(outcome(headers, server))


def outcome(headers: Mapping[str, str], server: WebServer) -> Outcome:
    spent = [Spent(gunicorn=server.pid, PostgreSQL=postmaster()) for _ in range(3)]

    def rate_of(place: int, path: str, headers: Mapping[str, str] = {}) -> float:
        bodies = single_bodies(REQUESTS)
        return REQUESTS / spent[place].during(lambda: post_all(server, path, bodies, headers))

    rate, limit, bare = medians_told(
        lambda: rate_of(0, "/v1/events", headers),
        lambda: rate_of(1, "/peer/events"),
        lambda: rate_of(2, "/peer/rows"),
        rounds=ROUNDS,
    )
    sent = REQUESTS * (ROUNDS + 1)
    check(flexmeter=sent, peer=sent)
    own, theirs, least = (each.told(sent) for each in spent)
    peer = (
        f"(a bare row: {bare / limit:.2f} times; processor time of a request, in ms: {own}; of the peer's: {theirs}; "
        f"of a bare row's: {least}) DRF's serializer and objects.create()"
    )
    figures = {f"{name}_seconds": seconds / sent for name, seconds in spent[0].of.items()}
    return compared(
        "http_single, inline", rate, limit, peer=peer, aim=AIM, unit="requests/s", requests=sent, bare_rate=bare, **figures
    )


if __name__ == "__main__":
    main()
