"""Kills the server at random moments under users who chat as fast as they can, and counts what became of their messages.

    interop/crash.py [rounds] [seed]

Four users send to each other, to one who is away without a session, and to one whose session waits for its connection.
They use stream management (XEP-0198) by hand, break their own connections now and then, and resume. At the end every
message that was acknowledged to its sender must have reached its receiver: once, and in order. After a crash the server
may repeat what it cannot know to be taken, in an unbroken row at the head of the new stream, and never otherwise.
"""

import asyncio
import base64
import collections
import contextlib
import logging
import random
import ssl
import sys
import tempfile
import time
from pathlib import Path
from xml.etree.ElementTree import XMLPullParser

from server import Server

logging.getLogger("asyncio").setLevel(logging.ERROR)

HEADER = ("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' "
          "version='1.0'>")
SM = "{urn:xmpp:sm:3}"
CLIENT = "{jabber:client}"
STANZAS = {CLIENT + "message", CLIENT + "presence", CLIENT + "iq"}
# So many stanzas of a user may wait for their acknowledgement.
WINDOW = 200
# Nothing takes longer than this, unless it hangs.
PATIENCE = 30


class Wrong(Exception):
    """The server did what it must not do."""


class Stream:
    """One connection: its elements in, text out."""

    @classmethod
    async def open(cls, server):
        context = ssl.create_default_context(cafile=server.certificate)
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", server.direct_tls, ssl=context,
                                                                 server_hostname="localhost")
        self.begin()
        return self

    def begin(self):
        self.parser, self.depth, self.elements, self.root = XMLPullParser(("start", "end")), 0, collections.deque(), None
        self.write(HEADER)

    def write(self, text):
        if self.writer.is_closing():
            raise ConnectionError("closed")
        self.writer.write(text.encode())

    def next(self):
        """An element that is here already, or nothing."""
        for event, element in self.parser.read_events():
            if event == "start":
                self.depth += 1
                self.root = element if self.depth == 1 else self.root
            else:
                self.depth -= 1
                if self.depth == 0:
                    raise ConnectionError("the stream was closed")
                if self.depth == 1:
                    self.elements.append(element)
                    self.root.clear()
        return self.elements.popleft() if self.elements else None

    async def read(self):
        while (element := self.next()) is None:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError("end of file")
            self.parser.feed(data)
        if element.tag.endswith("}error") and "streams" in element.tag:
            raise Wrong(f"a stream error: {[child.tag for child in element]}")
        return element

    async def want(self, *tags):
        element = await self.read()
        if element.tag not in tags:
            raise Wrong(f"{element.tag} instead of {tags}")
        return element

    def drop(self):
        self.writer.transport.abort()


class Peer:
    """A user with one session, who keeps the books of both sides of it."""

    def __init__(self, world, user):
        self.world, self.user = world, user
        self.stream, self.token, self.handled, self.base = None, None, 0, 0
        # what was sent and not acknowledged; the numbers sent and acknowledged to each receiver
        self.unacked = collections.deque()
        self.sent = collections.Counter()
        self.acked = collections.defaultdict(list)
        # from each sender: the numbers that came, one list for each stream
        self.came = []
        self.restarts = []
        self.live, self.stays = asyncio.Event(), True

    async def log_in(self):
        """A stream with a session: the old one if there is one."""
        # Now, not when the answer is read: that may lie in a buffer while the server is killed.
        restarts = self.world.restarts
        stream = await Stream.open(self.world.server)
        try:
            await stream.want("{http://etherx.jabber.org/streams}features")
            secret = base64.b64encode(f"\0{self.user.name}\0{self.user.password}".encode()).decode()
            stream.write(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>")
            await stream.want("{urn:ietf:params:xml:ns:xmpp-sasl}success")
            stream.begin()
            await stream.want("{http://etherx.jabber.org/streams}features")
            if self.token:
                stream.write(f"<resume xmlns='urn:xmpp:sm:3' previd='{self.token}' h='{self.handled}'/>")
                resumed = await stream.want(SM + "resumed")
                self.restarts.append(restarts)
                self.came.append(collections.defaultdict(list))
                self.stream = stream
                self.take_ack(int(resumed.get("h")))
                for _, text in self.unacked:
                    stream.write(text)
                stream.write("<r xmlns='urn:xmpp:sm:3'/>")
            else:
                stream.write("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>crash"
                             "</resource></bind></iq>")
                await stream.want(CLIENT + "iq")
                stream.write("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
                self.token = (await stream.want(SM + "enabled")).get("id")
                self.restarts.append(restarts)
                self.came.append(collections.defaultdict(list))
                self.stream = stream
                self.send(None, "<presence/>")
            self.live.set()
        except BaseException:
            stream.drop()
            raise

    async def live_on(self):
        """Reads, and comes back whenever the connection is gone."""
        while True:
            try:
                await asyncio.wait_for(self.log_in(), PATIENCE)
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

    def send(self, receiver, text):
        self.unacked.append((receiver, text))
        self.stream.write(text)

    def say(self, to):
        number = self.sent[to.user.name]
        self.sent[to.user.name] += 1
        padding = "." * (self.world.random.randrange(8000) if self.world.random.random() < 0.2 else 0)
        text = (f"<message to='{to.user.jid}' type='chat' id='{self.user.name}-{to.user.name}-{number}'>"
                f"<body>{number}{padding}</body></message>")
        self.send((to, number), text)

    def ask(self):
        self.stream.write("<r xmlns='urn:xmpp:sm:3'/>")

    def take_ack(self, h):
        if not self.base <= h <= self.base + len(self.unacked):
            raise Wrong(f"{self.user}: h={h}, after {self.base} acknowledged and {len(self.unacked)} more sent")
        while self.base < h:
            self.base += 1
            what, _ = self.unacked.popleft()
            if what:
                to, number = what
                self.acked[to.user.name].append(number)

    def take(self, element):
        if element.tag in STANZAS:
            self.handled += 1
            if element.tag == CLIENT + "message":
                if element.get("type") == "error":
                    raise Wrong(f"an error for {element.get('id')}")
                sender, receiver, number = element.get("id").split("-")
                assert receiver == self.user.name, f"{self.user} got what was for {receiver}"
                self.came[-1][sender].append(int(number))
        elif element.tag == SM + "r":
            # A lazy client lets it lie sometimes, and says more later.
            if self.world.random.random() < 0.7:
                self.stream.write(f"<a xmlns='urn:xmpp:sm:3' h='{self.handled}'/>")
        elif element.tag == SM + "a":
            self.take_ack(int(element.get("h")))
        if self.handled % 50 == 49:
            self.stream.write(f"<a xmlns='urn:xmpp:sm:3' h='{self.handled}'/>")

    async def chat(self, others):
        """Says something to everybody, in bursts, and asks how much of it has arrived."""
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
    def __init__(self, folder, rounds, seed):
        self.random, self.rounds = random.Random(seed), rounds
        self.server = Server(Path(folder) / "data").start()
        self.restarts, self.over = 0, False
        peers = [Peer(self, self.server.add_user(name)) for name in ("a", "b", "c", "d", "away", "detached")]
        *self.chatting, self.away, self.detached = peers
        self.peers, self.tasks = peers, []

    def watch(self, work):
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def until(self, fact, what, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while not fact():
            for task in self.tasks:
                if task.done() and task.exception():
                    raise task.exception()
            if time.monotonic() > deadline:
                raise Wrong(f"not within {patience} s: {what}")
            await asyncio.sleep(0.01)

    async def run(self):
        for peer in self.chatting:
            self.watch(peer.live_on())
        leaving = self.watch(self.detached.live_on())
        await self.until(lambda: all(p.live.is_set() for p in [*self.chatting, self.detached]), "the first logins")
        await self.until(lambda: not self.detached.unacked or self.detached.ask(), "a session that waits")
        self.detached.stays = False
        self.detached.stream.drop()
        await leaving
        chats = [self.watch(peer.chat([p for p in self.peers if p is not peer])) for peer in self.chatting]
        for _ in range(self.rounds):
            # Most often in the middle of the chat, sometimes while they are still coming back.
            if self.random.random() < 0.75:
                await self.until(lambda: all(p.live.is_set() for p in self.chatting), "all back")
                await asyncio.sleep(self.random.uniform(0, 0.8))
            else:
                await asyncio.sleep(self.random.uniform(0, 0.1))
            self.server.kill()
            self.restarts += 1
            self.server.start()
        self.over = True
        await self.until(lambda: all(chat.done() for chat in chats), "the end of the chat")
        await self.until(lambda: all(p.live.is_set() for p in self.chatting), "all back")
        for peer in self.chatting:
            with contextlib.suppress(OSError):  # whoever is not there asks when he comes back
                peer.ask()
        await self.until(lambda: not any(p.unacked for p in self.chatting), "an acknowledgement of everything")
        self.watch(self.away.live_on())
        self.detached.stays = True
        self.watch(self.detached.live_on())
        complete = lambda r, s: set(s.acked[r.user.name]) <= {n for c in r.came for n in c[s.user.name]}
        try:
            await self.until(lambda: all(complete(r, s) for r in self.peers for s in self.chatting), "all messages")
        except Wrong:
            pass  # counted below, by name
        return self.count()

    def count(self):
        """Acknowledged, lost, doubled; and what is wrong, in words."""
        acknowledged, lost, doubled, words = 0, 0, 0, []
        for receiver in self.peers:
            for sender in self.chatting:
                promised = sender.acked[receiver.user.name]
                acknowledged += len(promised)
                last, at_restart = -1, 0
                seen = set()
                for nth, stream in enumerate(receiver.came):
                    numbers = stream[sender.user.name]
                    where = (f"{sender.user.name} to {receiver.user.name}, stream {nth} begun after kill "
                             f"{receiver.restarts[nth]} with {numbers[:1]}")
                    # Since something last came from there: a stream may have ended before its first message.
                    crashed = receiver.restarts[nth] > at_restart
                    for at, number in enumerate(numbers):
                        repeats = at == 0 and crashed
                        if number <= last and not repeats:
                            doubled += 1
                            words.append(f"{where}: {number} after {last}")
                        elif number > last + 1:
                            words.append(f"{where}: {number} after {last}: out of order")
                        last, at_restart = number, receiver.restarts[nth]
                    seen.update(numbers)
                gone = sorted(set(promised) - seen)
                lost += len(gone)
                if gone:
                    words.append(f"{sender.user.name} to {receiver.user.name}: lost {gone}")
        words += self.server.complaints()
        return acknowledged, lost, doubled, words

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def crash(folder, rounds, seed):
    world = World(folder, rounds, seed)
    try:
        result = await world.run()
        await world.close()
        world.server.stop()
        return result
    finally:
        await world.close()
        if world.server.process.poll() is None:
            world.server.kill()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        acknowledged, lost, doubled, words = asyncio.run(crash(folder, rounds, seed))
    print(*words, sep="\n", end="\n" if words else "")
    print(f"rounds {rounds}, acknowledged {acknowledged}, lost {lost}, doubled {doubled}; seed {seed}")
    sys.exit(1 if words else 0)


if __name__ == "__main__":
    main()
