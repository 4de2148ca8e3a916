"""Clusters for the integration tests, and the check that nothing of one stays behind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.running import BringUp, Running, make, until


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The account's own clusters must neither be seen nor touched."""
    home = tmp_path_factory.mktemp("state-home")
    previous = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(home)
    yield home
    if previous is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = previous


@contextlib.contextmanager
def _up(running: Running, request: pytest.FixtureRequest) -> Iterator[Running]:
    failed_before = request.session.testsfailed
    running.up()
    try:
        yield running
    finally:
        if request.session.testsfailed > failed_before:
            print(running.logs())
        running.down()
        left = running.leftovers()
        for _ in range(50):
            if not left:
                break
            time.sleep(0.1)
            left = running.leftovers()
        assert not left, left


@pytest.fixture
def settings_only(tmp_path: Path) -> Iterator[Running]:
    """Not up: the test does that. Taken down afterwards in any case."""
    running = make(tmp_path)
    yield running
    running.down()
    until(lambda: not running.leftovers(), f"nothing is left: {running.leftovers()}", 10)


@pytest.fixture
def bring_up(request: pytest.FixtureRequest) -> Iterator[BringUp]:
    """Brings a cluster up, and down after the test."""
    with contextlib.ExitStack() as ends:
        yield lambda running: ends.enter_context(_up(running, request))


@pytest.fixture(scope="module")
def bring_up_for_all(request: pytest.FixtureRequest) -> Iterator[BringUp]:
    """As bring_up, but down after the file's last test."""
    with contextlib.ExitStack() as ends:
        yield lambda running: ends.enter_context(_up(running, request))


@pytest.fixture
def running(tmp_path: Path, bring_up: BringUp) -> Running:
    """A cluster of this test's own, to be hurt."""
    return bring_up(make(tmp_path))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Running]:
    """A cluster that the tests of a file share; each uses model names of its own and removes them."""
    with _up(make(tmp_path_factory.mktemp("shared")), request) as running:
        yield running
