"""The admin: what happened to an event, what was used, and what waits or was rejected."""

from flexmeter.admin import events, health, inbox, keys, meters, rejected

__all__ = ["events", "health", "inbox", "keys", "meters", "rejected"]
