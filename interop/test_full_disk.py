"""A full disk: a separate file system that is shrunk to the size of its content, and enlarged again later.

Needs permission to mount (root). Without it the tests fail with a message.
"""

import asyncio
import contextlib
import os
import subprocess
import sys

import pytest

from disk import Disk
from raw import Session, until
from server import Server

# A message fills a page of the database.
PADDING = "." * 4000
# More than the log that is written ahead may take without growing.
MANY = 600
# SQLite's write-ahead log, in bytes: its header, and each frame; and after how many frames the log's index grows.
HEADER, FRAME, INDEXED = 32, 4096 + 24, 4062
# Somebody who reads, a backup for example: the write-ahead log cannot start over.
READER = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1], isolation_level=None)
reader.execute("BEGIN")
reader.execute("SELECT count(*) FROM meta").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "data")
    yield disk
    disk.unmount()


@pytest.fixture
def server(request, disk, tmp_path):
    """The configuration is the test's parameter."""
    server = Server(disk.path, VORPAL_LIMITS_TRAFFIC="100 MB/s", **getattr(request, "param", {})).start()
    yield server
    server.stop()
    assert not [line for line in server.complaints() if "panicked" in line]


@pytest.fixture
async def enter(server):
    """Creates sessions that listen, and reconnect when told to."""
    tasks = []

    class Present(Session):
        async def come(self):
            await self.log_in()
            self.staying = asyncio.create_task(self.stay())
            tasks.append(self.staying)
            return self

        async def stay(self):
            with contextlib.suppress(OSError):
                await self.listen()

        async def until(self, fact, what):
            await until(fact, f"{self.user}: {what}", tasks)

        def say(self, to, id):
            self.send(f"<message to='{to.jid}' type='chat' id='{id}'><body>{PADDING}</body></message>", id)

        def heard(self):
            return [id for id, _, _ in self.messages]

        async def settled(self):
            self.ask()
            await self.until(lambda: not self.unacked, "an acknowledgement of everything")

        async def told(self, to, id):
            """Sends a message and waits for the result: nothing but an acknowledgement, or an error."""
            self.say(to, id)
            self.ask()
            await self.until(lambda: id in self.acked or self.refused(id), "an answer")

        def refused(self, id):
            conditions = [conditions for failed, conditions in self.errors if failed == id]
            assert all("resource-constraint" in these for these in conditions), conditions
            return bool(conditions)

    yield lambda user, **options: Present(server, user, **options)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def fill_up(disk, sender, to, prefix):
    """Sends until the first error. Everything acknowledged before is promised as usual."""
    disk.fill()
    for n in range(MANY):
        await sender.told(to, f"{prefix}-{n}")
        if sender.refused(f"{prefix}-{n}"):
            return [f"{prefix}-{k}" for k in range(n)]
        disk.fill()
    raise AssertionError("the disk is full, and everything goes on")


async def test_a_full_disk_is_told_to_senders_and_nothing_promised_is_lost(disk, server, enter):
    users = [server.add_user(name) for name in ("a", "there", "away", "detached", "late")]
    a_user, there_user, away_user, detached_user, late_user = users
    a, there, detached = [await enter(user).come() for user in (a_user, there_user, detached_user)]
    await detached.settled()
    detached.stream.drop()
    before = [f"before-{n}" for n in range(20)]
    for id in before:
        for to in (there_user, away_user, detached_user, late_user):
            a.say(to, f"{id}-{to.name}")
    await a.settled()
    filling = await fill_up(disk, a, away_user, "filling")

    # While it is full: errors, at once and to everybody, and no acknowledgement of anything.
    acked = len(a.acked)
    refused = [f"full-{n}" for n in range(20)]
    for id in refused:
        for to in (there_user, away_user, detached_user):
            if len(a.errors) < 60:
                await a.told(to, f"{id}-{to.name}")
                assert a.refused(f"{id}-{to.name}")
    assert len(a.acked) == acked
    # The log says it once, and where, however many there are.
    failing = [line for line in server.log.read_text().splitlines() if "commits are not written" in line]
    assert len(failing) == 1 and str(disk.path) in failing[0] and f" at {disk.path}" in failing[0], failing
    # What was promised before is given to who comes now.
    await detached.come()
    wanted = [f"{id}-{detached_user.name}" for id in before]
    await detached.until(lambda: detached.heard() == wanted, "what was promised")

    # Who logs in can be promised nothing: no stream management. What waits is given nevertheless.
    late = await enter(late_user, managed=False).come()
    wanted = [f"{id}-{late_user.name}" for id in before]
    await late.until(lambda: late.heard() == wanted, "what waited")

    # With room again all goes on, with the same process.
    disk.make_room()
    await a.settled()
    await until(lambda: "commits are written again" in server.log.read_text(), "a line at the end")
    # The room is looked at once a second: until then what would have to be kept is refused.
    said = lambda what: server.log.read_text().count(what)
    await until(lambda: said("is nearly full") == said("has room again"), "room")
    late.stream.write("</stream:stream>")
    await late.until(late.staying.done, "the end of the stream")
    for to in (there_user, away_user, detached_user, late_user):
        await a.told(to, f"after-{to.name}")
        await a.until(lambda: f"after-{to.name}" in a.acked, "an acknowledgement")
    again = await enter(late_user).come()
    await again.until(lambda: again.heard() == [f"after-{late_user.name}"], "what came since, and nothing else")
    away = await enter(away_user).come()
    for session, middle in ((there, []), (detached, []), (away, filling)):
        name = session.user.name
        wanted = [f"{id}-{name}" for id in before] + middle + [f"after-{name}"]
        await session.until(lambda: len(session.heard()) >= len(wanted), "everything")
        assert session.heard() == wanted
        # In the archive, too, there is what was promised and not what was refused.
        assert [id for _, id in await session.archive()] == wanted
    failed = [id for id, _ in a.errors]
    assert len(failed) == len(set(failed)), "an error came twice"


async def test_a_server_killed_with_its_disk_full_keeps_what_it_promised(disk, server, enter):
    a_user, away_user, detached_user = [server.add_user(name) for name in ("a", "away", "detached")]
    a, detached = [await enter(user).come() for user in (a_user, detached_user)]
    await detached.settled()
    detached.stream.drop()
    before = [f"before-{n}" for n in range(20)]
    for id in before:
        for to in (away_user, detached_user):
            a.say(to, f"{id}-{to.name}")
    await a.settled()
    filling = await fill_up(disk, a, away_user, "filling")
    for n in range(20):
        await a.told(detached_user, f"full-{n}")

    # It comes back though the disk is full, and gives what was promised.
    server.kill()
    disk.fill()
    server.start()
    await detached.come()
    promised = [f"{id}-{detached_user.name}" for id in before]
    await detached.until(lambda: detached.heard() == promised, "what was promised")

    # Once more, and then with room.
    server.kill()
    disk.make_room()
    server.start()
    await a.come()
    await a.settled()
    await detached.come()
    away = await enter(away_user).come()
    # Whoever repeats what was not acknowledged, though it was told an error, has it delivered now.
    repeated = [id for id in a.acked if id.startswith("full-")]
    for session, wanted in ((detached, promised + repeated), (away, [f"{id}-{away_user.name}" for id in before] + filling)):
        await a.told(session.user, f"after-{session.user.name}")
        wanted = wanted + [f"after-{session.user.name}"]
        await session.until(lambda: wanted[-1] in session.heard(), "the last")
        # After a crash what was not known to be taken may come again, under its own id.
        ids = {stanza_id for _, stanza_id, _ in session.messages}
        assert list(dict.fromkeys(id for id in session.heard() if not id.startswith("filling-") or id in wanted)) == wanted
        assert len(ids) == len(set(session.heard()))
        kept = [id for _, id in await session.archive()]
        assert [id for id in kept if id in wanted] == wanted and len(kept) == len(set(kept))


# Nothing is kept free here: the refusal shall come from the disk.
@pytest.mark.parametrize("server", [{"VORPAL_STORAGE_RESERVE": "0 B"}], indirect=True)
@pytest.mark.parametrize("pages", [6, 8])
async def test_a_message_that_was_refused_when_it_was_written_does_not_come_back_after_a_kill(disk, server, enter, pages):
    """There is space for the frames of a commit, but not for the index of the write-ahead log, which must grow with them. So the
    commit fails after its frames are written, and a process that starts after a kill reads the frames, not the index."""
    a_user, away_user = [server.add_user(name) for name in ("a", "away")]
    a = await enter(a_user).come()
    await a.settled()
    wal = disk.path / "vorpal.db-wal"
    reader = subprocess.Popen([sys.executable, "-c", READER, disk.path / "vorpal.db"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    assert reader.stdout.readline() == b"reads\n"
    frames = lambda: (os.path.getsize(wal) - HEADER) // FRAME
    told = []

    async def tell():
        told.append(f"told-{len(told)}")
        await a.told(away_user, told[-1])
        return a.refused(told[-1])

    while frames() < INDEXED - 30:
        assert frames() < INDEXED and not await tell()
    for _ in range(30):
        disk.fill(pages)
        if refused := await tell():
            break
    assert refused and frames() >= INDEXED, f"not this fault: {frames()} frames"
    server.kill()
    reader.kill()
    reader.wait()

    disk.make_room()
    server.start()
    away = await enter(away_user).come()
    await away.until(lambda: told[-2] in away.heard(), "what was acknowledged")
    assert away.heard() == told[:-1] and [id for _, id in await away.archive()] == told[:-1]
