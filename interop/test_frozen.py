"""Clients that stop reading while much is sent to them, like a phone that has been suspended.

FROZEN: for how many seconds (0: until everything is sent); WAITING: how many MB wait for each (8).
"""

import asyncio
import contextlib
import os
import socket

from raw import Session, until
from server import Server

SECONDS = float(os.environ.get("FROZEN", 0))
BODY = "." * 30_000
MESSAGES = int(os.environ.get("WAITING", 8)) * 1_000_000 // len(BODY)
# More than the store keeps of its file in memory (32 MiB), which is not counted.
WARM_UP = 48_000_000 // len(BODY)
# In KiB. What waits for one session is 512 KiB at most, and as much is read at once from the log for each; the rest is what
# the allocator keeps of the traffic.
BOUND = 3 * 2 * 512 + 2 * 1024


def resident(server):
    """The server's memory in KiB."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


class Sleeper(Session):
    """A client that can stop reading."""

    def __init__(self, *args):
        super().__init__(*args)
        self.reads = asyncio.Event()
        self.reads.set()

    def begun(self, stream):
        super().begun(stream)
        # Little of what waits shall be in the buffers of the system. (Later it would only make reading slow.)
        if not self.resumed:
            stream.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)

    async def listen(self):
        with contextlib.suppress(OSError):
            while True:
                self.take(await self.stream.read())
                if not self.reads.is_set():
                    self.stream.writer.transport.pause_reading()
                    await self.reads.wait()
                    self.stream.writer.transport.resume_reading()

    def numbers(self):
        return [int(id) for id, _, _ in self.messages]


async def test_clients_that_do_not_read_cost_little_and_miss_nothing(tmp_path):
    # A sender that is faster than its receiver is refused when a part of what may wait is its own: here nothing is.
    server = Server(tmp_path / "data", VORPAL_LIMITS_TRAFFIC="100 MB/s", VORPAL_LIMITS_OFFLINE_BYTES="1 GiB").start()
    tasks = []

    def watch(work):
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    async def seen(fact, what):
        await until(fact, what, tasks, patience=120)

    async def send(number, to):
        sender.send(f"<message to='{to.user.jid}' type='chat' id='{number}'><body>{BODY}</body></message>", number)
        if len(sender.unacked) > 50:
            sender.ask()
            await sender.stream.writer.drain()
            await seen(lambda: len(sender.unacked) <= 10, "an acknowledgement")

    try:
        sender, awake, other, *sleepers = [await Sleeper(server, server.add_user(name)).log_in()
                                           for name in ("sender", "awake", "other", "again", "dropped", "elsewhere")]
        again, dropped, elsewhere = sleepers
        for session in (sender, awake, other):
            watch(session.listen())
        first = {session: watch(session.listen()) for session in sleepers}
        # What the server needs for so much traffic is not counted.
        for number in range(WARM_UP):
            await send(number, awake)
        await seen(lambda: len(awake.messages) == WARM_UP, "all of it")
        before = resident(server)

        for session in sleepers:
            session.reads.clear()
        for number in range(MESSAGES):
            for session in sleepers:
                await send(number, session)
        sender.ask()
        await seen(lambda: not sender.unacked, "an acknowledgement of everything")
        if SECONDS:
            await asyncio.sleep(SECONDS)
        # Others do not notice.
        for number in range(50):
            awake.send(f"<message to='{other.user.jid}' type='chat' id='{number}'><body>hi</body></message>")
            await seen(lambda: len(other.messages) == number + 1, "a message between others")
        grown = resident(server) - before
        assert all(len(session.messages) < MESSAGES / 2 for session in sleepers), "they have been reading"
        print(f"{len(sleepers)} clients that do not read, {MESSAGES * len(BODY) // 1000} KB for each: {grown} KiB more")
        assert grown < BOUND, f"{grown} KiB more for clients that do not read"

        # One goes on reading. One's connection breaks, and one comes over another while the old one is still there.
        again.reads.set()
        first[dropped].cancel()
        dropped.stream.drop()
        first[elsewhere].cancel()
        old = elsewhere.stream
        for session in (dropped, elsewhere):
            await send(MESSAGES, session)
            session.reads.set()
            await session.log_in()
            watch(session.listen())
        await send(MESSAGES, again)
        for session in sleepers:
            await seen(lambda: len(session.messages) > MESSAGES, f"all messages of {session.user}")
            assert session.numbers() == list(range(MESSAGES + 1)), session.user
            assert len({id for _, id, _ in session.messages}) == MESSAGES + 1
        assert (again.resumed, dropped.resumed, elsewhere.resumed) == (0, 1, 1)
        old.drop()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.stop()
    assert server.complaints() == []
