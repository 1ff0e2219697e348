"""The demo: real traffic through the HTTP API, and figures that can be held against the files it came from."""
