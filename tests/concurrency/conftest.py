"""Processes on the database of a test."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from django.db import connection

from tests.concurrency import workers

# One process imports Django and is forked for every other one: quick to start, and no connection is inherited.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.concurrency.workers"])

Start = Callable[..., Future[Any]]


@pytest.fixture
def start(transactional_db: None) -> Iterator[Start]:
    """`start(function, *arguments)` runs it in a process of its own and returns the future of its result."""
    with ExitStack() as pools:

        def run(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            pool = ProcessPoolExecutor(1, processes, workers.connect, (where(),))
            return pools.enter_context(pool).submit(function, *arguments)

        yield run


@pytest.fixture
def spawn(transactional_db: None) -> Iterator[Callable[..., BaseProcess]]:
    """`spawn(function, *arguments)` runs it in a process that can be killed; none outlives the test."""
    started = []

    def run(function: Callable[..., Any], *arguments: Any) -> BaseProcess:
        process = processes.Process(target=connected, args=(where(), function, *arguments))
        process.start()
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.join()


def where() -> dict[str, Any]:
    return {"NAME": connection.settings_dict["NAME"]}


def connected(settings: dict[str, Any], function: Callable[..., Any], *arguments: Any) -> None:
    workers.connect(settings)
    function(*arguments)
