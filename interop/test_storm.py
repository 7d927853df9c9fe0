"""A login storm: after a crash, clients with a session are back first, and none is refused."""

import asyncio
import contextlib
import re
import urllib.request

import pytest

from server import free_port
from storm import make, storm

SESSIONS, NEW = 120, 120
QUEUES = "vorpal_logins_waiting", "vorpal_binds_waiting"


@pytest.fixture
def server(tmp_path):
    port = free_port()
    server = make(tmp_path / "data", VORPAL_LISTEN_METRICS=f"127.0.0.1:{port}", VORPAL_LOG_LEVEL="debug").start()
    server.metrics = port
    yield server
    server.stop()
    assert server.complaints() == []


async def watch(server, seen):
    """Polls the queue lengths in the metrics."""
    def read():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.split()[1]) for line in lines if line.split()[0] in QUEUES)

    while True:
        with contextlib.suppress(OSError):  # it is just being killed
            seen.append(await asyncio.to_thread(read))
        await asyncio.sleep(0.02)


def order(server, people):
    """The clients in the order in which the server admitted them. Client-side times are less exact: one turn reads many sockets."""
    said = server.log.read_text()
    said = said[said.rindex(" ready "):]
    by_name = {str(person.user): person for person in people}
    return [by_name[found[1]] for found in re.finditer(r" DEBUG .*: (?:bound|resumed) session=([^/\s]+)/", said)]


@pytest.mark.parametrize("networks", [None, 1])
@pytest.mark.parametrize("scram", [False, True])
async def test_after_a_crash_sessions_are_resumed_before_new_ones_begin(server, networks, scram):
    """One network: a school behind one address, within the default limits."""
    seen = []
    watching = asyncio.create_task(watch(server, seen))
    back, new, _ = await storm(server, SESSIONS, NEW, networks, scram)
    watching.cancel()
    assert [person.tries for person in back + new] == [1] * (SESSIONS + NEW), "somebody was turned away"
    came = order(server, back + new)
    assert len(came) == SESSIONS + NEW, "the log does not say of everybody that it came"
    early = len(came) - came[::-1].index(next(person for person in came[::-1] if person in back)) - SESSIONS
    # With few at once nobody waits for anybody: the last who resume are few.
    assert early <= NEW // 10, f"{early} new sessions before the last of the old ones"
    if not scram:
        assert max(seen) > 0, "nobody was seen to wait"
    for person in back + new:
        person.stream.drop()
