"""Where events and rollups are kept."""
