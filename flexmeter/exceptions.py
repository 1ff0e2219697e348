"""Every error flexmeter raises on purpose; all of them descend from FlexmeterError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class FlexmeterError(Exception):
    """Base of all errors raised by flexmeter; catch it to catch them all."""


class InvalidEvent(FlexmeterError):
    """An event broke the wire contract; `field` says where, `code` is stable for clients.

    Nothing of the call that raised it was stored. Correct the field and send again.
    """

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field, self.code, self.message = field, code, message

    def within(self, prefix: str) -> InvalidEvent:
        """The same error with its field named from further out, such as `events[3].event_name`."""
        return InvalidEvent(f"{prefix}.{self.field}" if self.field else prefix, self.code, self.message)


class InvalidQuery(FlexmeterError):
    """A question that cannot be answered as asked; `message` is for the caller, `details` names the members."""

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message, self.details = message, dict(details or {})


class InvalidDefinition(FlexmeterError):
    """What was to be defined breaks a rule; nothing was changed. `details` names the members."""

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message, self.details = message, dict(details or {})


class InvalidMeter(InvalidDefinition):
    """A meter definition that breaks a rule."""


class AlreadyDefined(InvalidDefinition):
    """There is one already where there can be only one."""


class DefinitionNotFound(FlexmeterError):
    """Nothing of that kind and id exists in that environment; `kind` is a word such as "plan"."""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"No {kind} {id!r} in this environment.")
        self.kind, self.id = kind, id


class MeterNotFound(DefinitionNotFound):
    """No meter of that id exists in that environment."""

    def __init__(self, meter_id: str) -> None:
        super().__init__("meter", meter_id)
        self.meter_id = meter_id


class PrunedEvents(InvalidQuery):
    """The answer needs events that retention has removed; ask for a later start or for whole rollup buckets."""


class EnvironmentBusy(FlexmeterError):
    """Concurrent work kept getting in the way; nothing was stored and repeating the call is safe."""


class PruneRefused(FlexmeterError):
    """Pruning now would lose usage that no rollup holds yet; the message says what to do first."""
