"""The server behind the demo, and the client that talks to it."""

import socket

import pytest

from demo import server
from demo.client import ApiError, Client
from demo.server import GunicornServer, ThreadedServer, base_url, listen
from tests.polling import eventually
from tests.requirements import requires


@pytest.fixture
def listener():
    with listen("127.0.0.1", 0) as listener:
        yield listener


def test_a_taken_port_gives_way_to_the_next_free_one(listener):
    taken = listener.getsockname()[1]
    with listen("127.0.0.1", taken) as other:
        assert taken < other.getsockname()[1] < taken + 100


def test_a_host_that_is_not_of_this_machine_is_an_error():
    with pytest.raises(OSError, match="assign"):
        listen("192.0.2.1", 8000)


def test_the_address_of_a_server_on_every_interface_is_one_that_a_browser_can_open():
    with listen("0.0.0.0", 0) as listener:  # noqa: S104
        assert base_url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(("installed", "kind"), [(True, GunicornServer), (False, ThreadedServer)])
@requires("gunicorn")
def test_the_project_is_served_with_gunicorn_or_without(installed, kind, listener, monkeypatch, settings):
    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS]
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "config.settings")
    monkeypatch.setattr(server, "find_spec", lambda name: object() if installed else None)
    client = Client(base_url(listener))
    running = server.start(listener)
    try:
        assert isinstance(running, kind)
        with pytest.raises(ApiError, match="Unauthorized") as refused:
            client.get("/v1/meters")
        assert refused.value.status == 401
        assert not running.has_ended()
    finally:
        running.stop()
    assert running.has_ended()
    eventually(lambda: is_refused(client))


def test_a_server_that_cannot_be_reached_is_told_apart_from_one_that_refuses():
    with listen("127.0.0.1", 0) as listener:
        url = base_url(listener)
    with pytest.raises(ApiError, match="GET /v1/meters: no answer") as unreachable:
        Client(url).get("/v1/meters")
    assert unreachable.value.status == 0


def is_refused(client: Client) -> bool:
    host, _, port = client.base_url.removeprefix("http://").partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0
