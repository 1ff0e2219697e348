"""The HTTP API: views, parsing, authentication and the error envelope."""
