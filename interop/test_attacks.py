"""How much of the server's resources one address and one account can use at its default settings, and how that affects others.

ATTACK: duration of each attack in seconds (6). PING: maximum time of another user's ping meanwhile, in ms (50; 200 with
a debug build, in which a TLS handshake or a stanza of 200 KB alone takes longer than that).
LATE: how many of 100 pings may take longer, but not ten times as long (5: attacker, server and pings share two processors, and
the server cannot schedule the attacker's own key derivation and TLS; 0 on a machine with spare processors).
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from raw import Session
from server import BINARY, Server
from test_frozen import resident

SECONDS = float(os.environ.get("ATTACK", 6))
PING = float(os.environ.get("PING", 200 if "/debug/" in BINARY else 50)) / 1000
LATE = float(os.environ.get("LATE", 5))
MIB = 1024
# What the allocator and the store keep of any traffic, however little; in KiB, like all memory here.
SLACK = 16 * MIB
# An address without an account; all sessions of one account.
ADDRESS, ACCOUNT = 64 * MIB, 256 * MIB


def peak(server):
    """Peak memory of the process since `forget_peak`, in KiB."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def forget_peak(server):
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


def stored(server):
    return sum(file.stat().st_size for file in server.data.rglob("*") if file.is_file())


class Quick(Session):
    """A session that timestamps answers to its pings when they are read, not when a task looks at them."""

    async def ping(self):
        self.heard = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        self.stream.write("<iq type='get' id='ping' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        await asyncio.wait_for(self.heard, 30)
        return time.monotonic() - began

    def take(self, element):
        super().take(element)
        if element.get("id") == "ping" and not self.heard.done():
            self.heard.set_result(None)


async def attack(server, name, users):
    """Runs an attack. Returns the server's peak memory, the memory it keeps, the growth of its files, and how long others waited."""
    other = await Quick(server, server.add_user("other"), managed=False).log_in()
    listening = asyncio.create_task(other.listen())
    for _ in range(20):
        await other.ping()
    forget_peak(server)
    before, files = resident(server), stored(server)
    words = [word for user in users for word in (user.name, user.password)]
    script = Path(__file__).parent / "attacks.py"
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), name, str(server.direct_tls),
                                                   str(server.certificate), str(SECONDS), *words,
                                                   stdout=asyncio.subprocess.PIPE)
    waited = []
    try:
        assert await process.stdout.readline() == b"begun\n"
        done = asyncio.create_task(process.communicate())
        while not done.done():
            waited.append(await other.ping())
            await asyncio.sleep(0.02)
        out, _ = await done
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        other.stream.drop()
    assert process.returncode == 0
    grown, wrote = peak(server) - before, stored(server) - files
    # Whoever attacked is gone: so is what it held.
    kept, patience = None, time.monotonic() + 30
    while time.monotonic() < patience and (kept is None or kept > SLACK):
        await asyncio.sleep(0.2)
        kept = resident(server) - before
    said = json.loads(out)
    waited.sort()
    print(f"\n{name}: {said['sent']} bytes over {said['connections']} connections; memory +{grown} KiB at most, +{kept} KiB "
          f"afterwards; files +{wrote} bytes; {len(waited)} pings, median {waited[len(waited) // 2] * 1000:.1f} ms, "
          f"longest {waited[-1] * 1000:.1f} ms")
    assert len(waited) > 20
    late = [wait for wait in waited if wait > PING]
    assert len(late) * 100 <= LATE * len(waited) and waited[-1] < 10 * PING, \
        f"others waited: {[round(wait * 1000) for wait in late]} ms"
    return grown, kept, wrote, said


@pytest.fixture
def target(tmp_path):
    server = Server(tmp_path / "data").start()
    yield server
    server.stop()
    assert server.complaints() == []


@pytest.mark.parametrize("name", ["strangers", "silent"])
async def test_an_address_without_an_account_takes_little_memory(target, name):
    grown, kept, wrote, _ = await attack(target, name, [])
    assert grown <= ADDRESS
    assert kept <= SLACK
    assert wrote < 2**20


async def test_namespaces_that_are_used_often_are_refused(target):
    users = [target.add_user("romeo"), target.add_user("mercutio")]
    grown, _, wrote, said = await attack(target, "namespaces", users)
    assert grown <= ADDRESS
    assert wrote < said["sent"]


async def test_a_long_language_is_not_stored_with_every_message(target):
    users = [target.add_user("romeo"), target.add_user("juliet")]
    grown, _, wrote, said = await attack(target, "language", users)
    assert grown <= ADDRESS
    # A row with its index, the log of writes, and what is sent back is bounded by a small multiple of what came.
    assert wrote < 20 * said["sent"]


@pytest.mark.parametrize("name", ["presence", "absent", "requests", "leaving", "readers"])
async def test_few_bytes_that_are_much_work_keep_nobody_waiting(target, name):
    grown, _, _, _ = await attack(target, name, [target.add_user(user) for user in ("romeo", "mercutio", "benvolio")])
    assert grown <= ACCOUNT


@pytest.mark.parametrize("name", ["sessions", "rosters"])
async def test_an_account_takes_bounded_memory_however_many_sessions_do_not_read(target, name):
    grown, _, _, _ = await attack(target, name, [target.add_user("romeo")])
    assert grown <= ACCOUNT
