"""Sockets owned by the service manager: clients that connect while the server is down wait, and the next process serves them."""

import asyncio
import socket
import subprocess
import sys
import urllib.request

import pytest

from raw import Session
from server import BINARY, Server, free_port

# As systemd does it: descriptors from 3 on, their names, and for whom they are.
MANAGER = """
import fcntl, os, sys
binary, names, *handed = sys.argv[1:]
spare = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in handed]
for at, fd in enumerate(spare):
    os.dup2(fd, 3 + at)
    os.close(fd)
os.environ |= {"LISTEN_FDS": str(len(spare)), "LISTEN_FDNAMES": names, "LISTEN_PID": str(os.getpid())}
os.execv(binary, [binary, "serve"])
"""


class Activated(Server):
    """A server with sockets passed to it. `sockets` has their names."""

    def __init__(self, data, sockets, **settings):
        super().__init__(data, **settings)
        self.sockets = sockets

    def spawn(self, log):
        handed = [held.fileno() for held in self.sockets.values()]
        return subprocess.Popen([sys.executable, "-c", MANAGER, BINARY, ":".join(self.sockets), *map(str, handed)],
                                env=self.env, cwd=self.data.parent, stderr=log, stdin=subprocess.DEVNULL, pass_fds=handed)


def hold(port=0):
    held = socket.create_server(("127.0.0.1", port), backlog=100)
    return held, held.getsockname()[1]


@pytest.fixture
def activated(tmp_path):
    servers = []

    def make(sockets, **settings):
        servers.append(Activated(tmp_path / "data", sockets, **settings))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()
        for held in server.sockets.values():
            held.close()


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_who_connects_while_the_server_is_away_waits_and_is_served(activated, how):
    (tls, tls_port), (metrics, metrics_port) = hold(), hold()
    # The first is known by its name, though it has another address; the second by its address.
    server = activated({"c2s-tls": tls, "vorpal.socket": metrics}, VORPAL_LISTEN_METRICS=f"127.0.0.1:{metrics_port}")
    never = server.direct_tls
    server.direct_tls = tls_port
    server.start()
    user = server.add_user()
    session = await Session(server, user).log_in()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", never))
    # What was not handed over is had as ever.
    socket.create_connection(("127.0.0.1", server.starttls)).close()

    getattr(server, how)()
    session.stream.drop()
    back = asyncio.create_task(session.log_in())
    health = asyncio.create_task(asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{metrics_port}/health"))
    await asyncio.sleep(1)
    assert not back.done() and not health.done(), "somebody answered"
    await asyncio.to_thread(server.start)
    await back
    assert session.resumed == 1
    with await health as answer:
        assert answer.status == 200
    session.stream.drop()


@pytest.mark.parametrize("name,address,complaint", [
    ("vorpal.socket", "127.0.0.1", "none of c2s, c2s_tls, c2s_plain, metrics"),
    ("c2s-plain", "127.0.0.1", None),
    ("c2s-plain", "0.0.0.0", "loopback"),
])
def test_a_socket_that_is_for_nothing_is_refused_in_words(activated, name, address, complaint):
    held = socket.create_server((address, free_port()))
    server = activated({name: held})
    if complaint is None:
        server.start()
        return
    with pytest.raises(AssertionError, match="did not start"):
        server.start()
    assert complaint in server.log.read_text()
