"""Views that are metered, one for each way to do it. docs/views.md has a curl line for each."""
