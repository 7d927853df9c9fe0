"""Kills the server, or its connections, at random moments while users chat as fast as they can, and counts what happened to their
messages.

    interop/crash.py [kill|stop|cut|full|all] [rounds] [seed]

kill: `kill -9`. stop: SIGTERM. cut: connections go dead without a FIN, and their clients reconnect; the server keeps running.
full: its disk is full until some clients have got an error, and sometimes the server is killed during that (needs root, to mount
a disk). all: any of these, at random. The server must have been built; VORPAL names a binary other than target/debug/vorpal,
SENDERS is the number of users who chat (6).

They send to each other, to offline users without a session, and to users whose sessions are detached. They use stream management
(XEP-0198) directly, break their own connections now and then, and resume. At the end every message that was acknowledged to its
sender must have reached its recipient, once and in order, and must be in both archives (XEP-0313) exactly once. After a kill the
server may repeat messages of which it cannot know that they were received, which are those it sent after its last commit: in an
unbroken sequence at the start of the new stream, with the same stanza id (XEP-0359), and never otherwise. A message whose sender
got an error must not have reached anybody, unless the sender has sent it again.
"""

import asyncio
import collections
import contextlib
import os
import random
import sys
import tempfile
from pathlib import Path as Folder

from disk import Disk
from raw import PATIENCE, Path, Session, Wrong, stanza_id, until
from server import Server

# So many stanzas of a user may wait for their acknowledgement.
WINDOW = 200
ENDS = ("kill", "stop", "cut", "full")
SENDERS = int(os.environ.get("SENDERS", 6))
# What only keeps the test from being fast, or would end a session that waits through it all.
SETTINGS = {"VORPAL_LIMITS_TRAFFIC": "100 MB/s", "VORPAL_LIMITS_CONNECTION_RATE": "6000/min",
            "VORPAL_MODULES_SMACKS_RESUME_TIME": "1d", "VORPAL_LIMITS_OFFLINE_BYTES": "4 GiB"}


class Peer(Session):
    """A user with one session, which records what both sides sent and received."""

    def __init__(self, world, user):
        super().__init__(world.server, user)
        self.world, self.path, self.paths = world, None, []
        # the numbers sent and acknowledged to each receiver
        self.sent = collections.Counter()
        self.acked = collections.defaultdict(list)
        # from each sender: the numbers that came, one list for each stream; the stanza ids of each message
        self.streams = []
        self.restarts = []
        self.ids = collections.defaultdict(set)
        # what is in the archive, at the end: the archive's ids of each message
        self.kept = collections.defaultdict(list)
        # what could not be stored, and what was sent again
        self.refused, self.again = set(), set()
        self.live, self.stays = asyncio.Event(), True

    def begun(self, stream):
        super().begun(stream)
        self.streams.append(collections.defaultdict(list))
        self.restarts.append(self.began_at)

    async def come(self):
        # Now, not when the answer is read: that may lie in a buffer while the server is killed.
        self.set_out()
        if self.world.how in ("cut", "all"):
            self.path = await Path.open(self.server.direct_tls, self.set_out)
            self.paths.append(self.path)
        await self.log_in(self.path and self.path.port)
        self.live.set()

    def set_out(self):
        self.began_at = self.world.restarts

    async def live_on(self):
        """Reads, and reconnects whenever the connection is gone."""
        while True:
            try:
                await asyncio.wait_for(self.come(), PATIENCE)
                while True:
                    self.take(await self.stream.read())
                    if self.world.random.random() < 0.0005:
                        # Does not read for a while: more waits for it than the server's queue may hold.
                        await asyncio.sleep(self.world.random.uniform(0, 0.5))
            except OSError:
                pass
            finally:
                self.live.clear()
                if self.stream:
                    self.stream.drop()
            if not self.stays:
                return
            await asyncio.sleep(self.world.random.uniform(0, 0.03))

    def cut(self):
        """Cuts the path; the client notices first. The server's end stays open for a while."""
        if self.path and self.live.is_set():
            self.path.die()
            self.stream.drop()
            self.live.clear()
        while len(self.paths) > 3:
            self.paths.pop(0).close()

    def say(self, to):
        number = self.sent[to.user.name]
        self.sent[to.user.name] += 1
        padding = "." * (self.world.random.randrange(8000) if self.world.random.random() < 0.2 else 0)
        self.send(f"<message to='{to.user.jid}' type='chat' id='{self.user.name}-{to.user.name}-{number}'>"
                  f"<body>{number}{padding}</body></message>", (to.user.name, number))

    def acknowledged(self, what):
        receiver, number = what
        self.acked[receiver].append(number)

    def repeated(self, what):
        self.again.add(what)

    def came(self, message):
        sender, receiver, number = message.get("id").split("-")
        assert receiver == self.user.name, f"{self.user} got what was for {receiver}"
        self.streams[-1][sender].append(int(number))
        self.ids[message.get("id")].add(stanza_id(message, self.user.jid))

    def failed(self, id, conditions):
        if self.world.disk is None or "resource-constraint" not in conditions:
            raise Wrong(f"an error for {id}: {conditions}")
        _, receiver, number = id.split("-")
        self.refused.add((receiver, int(number)))
        self.world.refusals += 1

    def asked(self):
        # A lazy client lets it lie sometimes, and says more later.
        if self.world.random.random() < 0.7:
            self.answer()

    async def chat(self, others):
        """Sends messages to everybody, in bursts, and requests acknowledgements."""
        while not self.world.over:
            await self.live.wait()
            try:
                for _ in range(self.world.random.randrange(1, 9)):
                    if len(self.unacked) < WINDOW:
                        self.say(self.world.random.choice(others))
                self.ask()
                await self.stream.writer.drain()
                if self.world.random.random() < 0.003:
                    self.stream.drop()
                    self.live.clear()
            except OSError:
                self.live.clear()
            await asyncio.sleep(0.002 if len(self.unacked) < WINDOW else 0.02)


class World:
    def __init__(self, folder, how, rounds, seed, tell):
        self.random, self.how, self.rounds, self.tell = random.Random(seed), how, rounds, tell
        data = Folder(folder) / "data"
        self.disk = Disk(data) if how in ("full", "all") else None
        self.server = Server(data, **SETTINGS).start()
        self.restarts, self.refusals, self.over = 0, 0, False
        make = lambda name, count: [Peer(self, self.server.add_user(name)) for _ in range(count)]
        self.chatting, self.away, self.detached = make("chatting", SENDERS), make("away", 2), make("detached", 2)
        self.peers, self.tasks = [*self.chatting, *self.away, *self.detached], []

    def watch(self, work):
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def until(self, fact, what):
        await until(fact, what, self.tasks)

    async def run(self):
        for peer in self.chatting:
            self.watch(peer.live_on())
        leaving = [self.watch(peer.live_on()) for peer in self.detached]
        await self.until(lambda: all(p.live.is_set() for p in [*self.chatting, *self.detached]), "the first logins")
        await self.until(lambda: not any(p.unacked and not p.ask() for p in self.detached), "sessions that wait")
        for peer in self.detached:
            peer.stays = False
            peer.stream.drop()
        await asyncio.gather(*leaving)
        chats = [self.watch(peer.chat([p for p in self.peers if p is not peer])) for peer in self.chatting]
        for number in range(self.rounds):
            # Most often in the middle of the chat, sometimes while they are still coming back, sometimes after a while.
            life = self.random.random()
            if life < 0.25:
                await asyncio.sleep(self.random.uniform(0, 0.1))
            else:
                await self.until(lambda: all(p.live.is_set() for p in self.chatting), "all back")
                await asyncio.sleep(self.random.uniform(0, 0.8) if life < 0.9 else self.random.uniform(1, 2.5))
            how = self.random.choice(ENDS) if self.how == "all" else self.how
            if how == "cut":
                for peer in self.random.sample(self.chatting, self.random.randrange(1, len(self.chatting))):
                    peer.cut()
            elif how == "full":
                await self.no_room()
            else:
                self.restart(self.server.kill if how == "kill" else self.server.stop)
            self.tell(f"round {number + 1}, {how}: {self.total('sent')} sent, {self.total('acked')} acknowledged, "
                      f"{sum(len(p.ids) for p in self.peers)} received")
        self.over = True
        await self.until(lambda: all(chat.done() for chat in chats), "the end of the chat")
        await self.until(lambda: all(p.live.is_set() for p in self.chatting), "all back")
        for peer in self.chatting:
            with contextlib.suppress(OSError):  # whoever is not there asks when he comes back
                peer.ask()
        await self.until(lambda: not any(p.unacked for p in self.chatting), "an acknowledgement of everything")
        for peer in [*self.away, *self.detached]:
            peer.stays = True
            self.watch(peer.live_on())
        heard = {p.user.name: p.ids for p in self.peers}
        refused = lambda: sum(f"{p.user.name}-{r}-{n}" not in heard[r] for p in self.chatting for r, n in p.refused)
        missing = lambda: self.total("sent") - refused() - sum(len(p.ids) for p in self.peers)
        with contextlib.suppress(Wrong):  # counted below, by name
            while (before := missing()) > 0:
                await self.until(lambda: missing() < before, "another message")
        # Who was sent nothing is to be seen to have come as well.
        await self.until(lambda: all(p.live.is_set() for p in self.peers), "all there")
        for task in [self.watch(peer.archive()) for peer in self.peers]:
            while not task.done():
                before = sum(len(peer.archived) for peer in self.peers)
                grown = lambda: sum(len(peer.archived) for peer in self.peers) > before
                await self.until(lambda: task.done() or grown(), "another page of an archive")
        for peer in self.peers:
            for archived, id in peer.archived:
                peer.kept[id].append(archived)
        return self.count()

    def restart(self, end):
        end()
        self.restarts += 1
        self.server.start()

    async def no_room(self):
        """The disk is full until some clients have got an error."""
        before = self.refusals
        # The server may have room in its files for a while.
        await self.until(lambda: self.disk.fill() or self.refusals > before + 20, "that the disk is full")
        if self.random.random() < 0.3:
            try:
                self.restart(self.server.kill)
                await self.until(lambda: all(p.live.is_set() for p in self.chatting), "all back, with a full disk")
            except AssertionError as refused:
                # There may be no room even to open the store. It said so, and starts when there is.
                if "the disk is full" not in str(refused):
                    raise
                self.disk.make_room()
                self.server.start()
        self.disk.make_room()
        acked = self.total("acked")
        await self.until(lambda: self.total("acked") > acked, "an acknowledgement, with room again")

    def total(self, of):
        if of == "sent":
            return sum(sum(p.sent.values()) for p in self.chatting)
        return sum(len(numbers) for p in self.chatting for numbers in p.acked.values())

    def count(self):
        """The result, and a description of everything that is wrong."""
        self.words = words = []
        lost, doubled, again, refused = 0, 0, 0, 0
        for receiver in self.peers:
            for sender in self.chatting:
                last, at_restart = -1, 0
                seen = set()
                told = {n for to, n in sender.refused if to == receiver.user.name}
                for nth, stream in enumerate(receiver.streams):
                    numbers = stream[sender.user.name]
                    where = (f"{sender.user.name} to {receiver.user.name}, stream {nth} begun after end "
                             f"{receiver.restarts[nth]} with {numbers[:1]}")
                    # Since something last came from there: a stream may have ended before its first message.
                    restarted = receiver.restarts[nth] > at_restart
                    for at, number in enumerate(numbers):
                        repeats = at == 0 and restarted
                        if number <= last and not repeats:
                            doubled += 1
                            words.append(f"{where}: {number} after {last}")
                        elif any(n not in told for n in range(last + 1, number)):
                            words.append(f"{where}: {number} after {last}: out of order")
                        last, at_restart = number, receiver.restarts[nth]
                    again += len(seen.intersection(numbers))
                    seen.update(numbers)
                promised = [n for n in sender.acked[receiver.user.name] if n not in told]
                both = [n for n in sorted(told & seen) if (receiver.user.name, n) not in sender.again]
                if both:
                    words.append(f"{sender.user.name} to {receiver.user.name}: refused and delivered {both}")
                refused += len(told)
                gone = sorted(set(promised) - seen)
                lost += len(gone)
                if gone:
                    words.append(f"{sender.user.name} to {receiver.user.name}: lost {gone}")
                gone, twice = self.archived(sender, receiver, promised)
                lost, doubled = lost + gone, doubled + twice
        # That the disk is full is complained of with every reason.
        words += [line for line in self.server.complaints() if not self.disk or "panicked" in line]
        return Count(self.total("sent"), self.total("acked"), refused, lost, doubled, again, words)

    def archived(self, sender, receiver, promised):
        """How many of these are missing in either archive, and how many are there more than once or with another id."""
        lost, doubled = 0, 0
        for owner in (sender, receiver):
            for number in promised:
                id = f"{sender.user.name}-{receiver.user.name}-{number}"
                entries = owner.kept[id]
                lost += not entries
                doubled += max(len(entries) - 1, 0)
                if len(entries) != 1:
                    self.words.append(f"{id}: {len(entries)} times in the archive of {owner.user}")
                elif owner is receiver and receiver.ids[id] and receiver.ids[id] != set(entries):
                    doubled += 1
                    self.words.append(f"{id}: in the archive as {entries}, and came as {receiver.ids[id]}")
        return lost, doubled

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []
        for path in [path for peer in self.peers for path in peer.paths]:
            path.close()


Count = collections.namedtuple("Count", "sent acknowledged refused lost doubled repeated words")


async def crash(folder, how, rounds, seed, tell=print):
    world = World(folder, how, rounds, seed, tell)
    try:
        try:
            result = await world.run()
        except Wrong:
            print(world.server.log.read_text(errors="replace")[-4000:], file=sys.stderr)
            raise
        await world.close()
        world.server.stop()
        return result
    finally:
        await world.close()
        if world.server.process.poll() is None:
            world.server.kill()
        if world.disk:
            world.disk.unmount()


def main():
    words = sys.argv[1:]
    how = words.pop(0) if words and not words[0].isdigit() else "kill"
    assert how in (*ENDS, "all"), __doc__
    rounds = int(words[0]) if words else 50
    seed = int(words[1]) if len(words) > 1 else random.randrange(1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        count = asyncio.run(crash(folder, how, rounds, seed))
    print(*count.words, sep="\n", end="\n" if count.words else "")
    print(f"{how}, {rounds} rounds, seed {seed}: {count.sent} sent, {count.acknowledged} acknowledged, {count.refused} refused, "
          f"{count.lost} lost, {count.doubled} doubled, {count.repeated} repeated under their ids after a restart")
    sys.exit(1 if count.words else 0)


if __name__ == "__main__":
    main()
