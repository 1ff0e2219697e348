"""What repeats of an event come to, given in the order of their acceptance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flexmeter.conf import conf
from flexmeter.events import UsageEvent


@dataclass(slots=True)
class State:
    """An event's stored values while repeats are applied to it, and the values that were replaced on the way."""

    event: UsageEvent
    repeated_at: datetime | None = None
    replaced: list[UsageEvent] = field(default_factory=list)
    repeats: int = 0
    conflicts: list[UsageEvent] = field(default_factory=list)

    def apply(self, repeat: UsageEvent, keep: bool) -> None:
        """Take over a repeat if it was accepted later and says something else."""
        known_until = max(self.event.accepted_at, self.repeated_at or self.event.accepted_at)
        if repeat.accepted_at <= known_until:
            self.repeats += 1
            return
        if not repeat.timestamp_given:
            repeat = repeat._replace(timestamp=self.event.timestamp)
        if repeat.same_content(self.event):
            self.repeats += 1
            self.repeated_at = repeat.accepted_at
        elif keep:
            self.conflicts.append(repeat)
        else:
            self.replaced.append(self.event)
            self.event, self.repeated_at = repeat, None


def settled(events: Sequence[UsageEvent]) -> tuple[dict[str, State], dict[str, list[UsageEvent]]]:
    """Where ids occur more than once: what each id comes to, and its elements in the order of their acceptance."""
    if len({event.event_id for event in events}) == len(events):
        return {}, {}
    keep = conf.REPEATED_EVENT == "keep"
    states: dict[str, State] = {}
    later: dict[str, list[UsageEvent]] = {}
    for event in sorted(events, key=lambda event: (event.event_id, event.accepted_at)):
        state = states.get(event.event_id)
        if state is None:
            states[event.event_id] = State(event)
            later[event.event_id] = [event]
        else:
            state.apply(event, keep)
            later[event.event_id].append(event)
    return states, later
