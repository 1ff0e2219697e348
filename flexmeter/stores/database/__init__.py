"""The store in the host project's own database."""
