import asyncio

import pytest

from client import Client
from server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server shared by all tests that do not restart or reconfigure it; each test has its own users."""
    server = Server(tmp_path_factory.mktemp("shared") / "data").start()
    yield server
    server.stop()
    assert server.complaints() == []


@pytest.fixture
def own_server(tmp_path):
    """A separate server that the test may kill."""
    server = Server(tmp_path / "data").start()
    yield server
    server.stop()
    assert server.complaints() == []


@pytest.fixture
async def connect():
    """Makes clients, and closes them when the test is over."""
    clients = []

    def make(*args, **kwargs):
        clients.append(Client(*args, **kwargs))
        return clients[-1]

    yield make
    await asyncio.gather(*(client.leave() for client in clients))
