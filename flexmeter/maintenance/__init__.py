"""Keeping rollups true and small: rebuild, compaction, verification, and retention of events."""
