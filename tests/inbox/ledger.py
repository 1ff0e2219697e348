"""What is in the ledger, asked in few words."""

from flexmeter.maintenance.verification import verify
from flexmeter.models import Event, InboxBatch, Meter, RejectedEvent, Rollup
from flexmeter.stores.database.levels import BY_BUCKET, of_levels


def counted() -> list[str]:
    """Ids of the events that are stored, in order."""
    return sorted(Event.objects.values_list("event_id", flat=True))


def waiting() -> int:
    return InboxBatch.objects.count()


def rejected() -> list[tuple[str, str]]:
    return sorted(RejectedEvent.objects.values_list("event_id", "reason"))


def assert_exact(events: int) -> None:
    """`events` are stored, every meter's rollups have each of them once, and nothing waits or was rejected."""
    assert Event.objects.count() == events
    assert list(verify()) == []
    assert not waiting()
    assert not rejected()
    for meter in Meter.objects.all():
        rows = Rollup.objects.filter(of_levels(*BY_BUCKET), series__meter_id=meter.pk)
        assert sum(rows.values_list("count", flat=True)) == events
