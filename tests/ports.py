"""Ports of the loopback for servers of our own."""

import random
import socket

PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections, so that a server which was killed finds its port free again."""


def free_port() -> int:
    """A port that nothing uses now."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe:
            if not is_taken(probe, port):
                return port
    raise OSError(f"no free port between {PORTS.start} and {PORTS.stop}")


def is_taken(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return True
    return False
