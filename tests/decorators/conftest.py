from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.test import AsyncClient, Client

from flexmeter.testing import usage_capture

__all__ = ["usage_capture"]


class Asked:
    """An answer as the client got it: status, and the whole body, also of a stream."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body


def ask(path: str, *, method: str = "get", **options: Any) -> Asked:
    response = getattr(Client(), method)(path, headers={"X-Token": "acme"}, **options)
    return Asked(response.status_code, b"".join(response))


def ask_async(path: str, *, method: str = "get", **options: Any) -> Asked:
    async def asking() -> Asked:
        response = await getattr(AsyncClient(), method)(path, headers={"X-Token": "acme"}, **options)
        if not response.streaming:
            return Asked(response.status_code, response.content)
        if response.is_async:
            return Asked(response.status_code, b"".join([chunk async for chunk in response.streaming_content]))
        return Asked(response.status_code, await sync_to_async(response.getvalue)())

    return async_to_sync(asking)()


@pytest.fixture(params=[ask, ask_async], ids=["Client", "AsyncClient"])
def asks(request: pytest.FixtureRequest) -> Callable[..., Asked]:
    """Asks for a URL with one of Django's two test clients, as customer acme."""
    return request.param


@pytest.fixture(autouse=True)
def _shapes(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.decorators.shapes"
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
