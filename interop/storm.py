#!/usr/bin/env python3
"""A login storm: the server is killed with sessions on it, and when it is back, their clients and as many clients without a
session connect, and log in at the same moment.

    storm.py [SESSIONS] [NEW] [NETWORKS] [scram]

SESSIONS (300) clients resume, NEW (300) clients begin new sessions, from NETWORKS networks (default: one each). Prints when they
were logged in. They connect without TLS, as behind a proxy, so that the server has more to do than its clients; and with PLAIN,
which costs the server most, or with SCRAM-SHA-1, which costs another round trip and hardly anything else. The server must have
been built; VORPAL names a binary other than target/debug/vorpal.
"""

import asyncio
import base64
import concurrent.futures
import hashlib
import hmac
import random
import sys
import tempfile
import time
from pathlib import Path as Folder

from raw import CLIENT, FEATURES, SM, Stream, Wrong
from server import Server, free_port

# A client that gets no answer for so long gives up, as real ones do.
PATIENCE = 60
SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"


class Start:
    """Lets clients go on when each of them has come here once. A later try does not wait."""

    def __init__(self, count):
        self.missing, self.open = count, asyncio.Event()

    async def wait(self):
        self.missing -= 1
        if self.missing <= 0:
            self.open.set()
        await self.open.wait()


class Person:
    """A client of one user, from a separate network."""

    def __init__(self, server, user, network, scram=False):
        self.server, self.user, self.tries, self.scram, self.salted = server, user, 0, scram, {}
        self.address = f"127.{1 + network // 65536}.{network // 256 % 256}.{network % 256}"
        self.stream, self.token, self.came, self.start = None, None, None, None

    async def connect(self):
        stream = Stream()
        try:
            stream.reader, stream.writer = await asyncio.open_connection("127.0.0.1", self.server.plain,
                                                                         local_addr=(self.address, 0))
            stream.begin()
            await stream.want(FEATURES)
        finally:
            if self.start:
                await self.start.wait()
        await (self.prove(stream) if self.scram else stream.authenticate(self.user))
        self.stream = stream

    async def prove(self, stream):
        """SCRAM-SHA-1 (RFC 5802). The salted password is kept, as clients keep it."""
        coded = lambda data: base64.b64encode(data).decode()
        bare = f"n={self.user.name},r={random.getrandbits(96):x}"
        stream.write(f"<auth xmlns='{SASL[1:-1]}' mechanism='SCRAM-SHA-1'>{coded(('n,,' + bare).encode())}</auth>")
        challenge = base64.b64decode((await stream.want(SASL + "challenge")).text).decode()
        said = dict(part.split("=", 1) for part in challenge.split(","))
        terms = said["s"], int(said["i"])
        if terms not in self.salted:
            self.salted[terms] = hashlib.pbkdf2_hmac("sha1", self.user.password.encode(), base64.b64decode(terms[0]), terms[1])
        key = hmac.digest(self.salted[terms], b"Client Key", "sha1")
        last = f"c=biws,r={said['r']}"
        signature = hmac.digest(hashlib.sha1(key).digest(), f"{bare},{challenge},{last}".encode(), "sha1")
        proof = bytes(a ^ b for a, b in zip(key, signature))
        stream.write(f"<response xmlns='{SASL[1:-1]}'>{coded(f'{last},p={coded(proof)}'.encode())}</response>")
        await stream.want(SASL + "success")
        stream.begin()
        await stream.want(FEATURES)

    async def bind(self):
        await self.connect()
        self.stream.write("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        answer = await self.stream.want(CLIENT + "iq")
        if answer.get("type") != "result":
            raise Wrong("no session")
        self.came = time.monotonic()
        self.stream.write("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        self.token = (await self.stream.want(SM + "enabled")).get("id")
        self.stream.write("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><presence/>")
        while (await self.stream.read()).get("id") != "r":
            pass

    async def resume(self):
        await self.connect()
        self.stream.write(f"<resume xmlns='urn:xmpp:sm:3' previd='{self.token}' h='0'/>")
        await self.stream.want(SM + "resumed")
        self.came = time.monotonic()

    async def come(self, how):
        """Logs in; a client that is refused tries again, as real clients do."""
        while True:
            self.tries += 1
            try:
                return await asyncio.wait_for(how(), PATIENCE)
            except (OSError, Wrong):
                await asyncio.sleep(random.uniform(0.2, 1))


def make(data, **settings):
    port = free_port()
    server = Server(data, VORPAL_LISTEN_C2S_PLAIN=f"127.0.0.1:{port}", VORPAL_LOGIN_PLAIN_WITHOUT_TLS="true",
                    **settings)
    server.plain = port
    return server


def add_users(server, count):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda _: server.add_user(), range(count)))


async def storm(server, sessions, new, networks=None, scram=False):
    """Returns the resumed and the new clients, and the start time."""
    networks = networks or sessions + new
    people = [Person(server, user, n % networks, scram) for n, user in enumerate(add_users(server, sessions + new))]
    random.shuffle(people)
    back, fresh = people[:sessions], people[sessions:]
    for at in range(0, sessions, 20):
        await asyncio.gather(*(person.come(person.bind) for person in back[at:at + 20]))
    if scram:
        # Deriving a password would keep this process busy while the server has nothing to do.
        for person in fresh:
            await person.connect()
            person.stream.drop()
    server.kill()
    start = Start(len(people))
    for person in people:
        person.tries, person.start = 0, start
        if person.stream:
            person.stream.drop()
    server.start()
    began = time.monotonic()
    random.shuffle(people)
    await asyncio.gather(*(person.come(person.resume if person.token else person.bind) for person in people))
    return back, fresh, began


def figures(name, people, began):
    times = sorted(person.came - began for person in people)
    again = sum(person.tries - 1 for person in people)
    return (f"{name}: {len(times)} in, the first after {times[0]:.2f} s, half after {times[len(times) // 2]:.2f} s, "
            f"the last after {times[-1]:.2f} s; {again} tries came to nothing")


async def run(sessions, new, networks, scram):
    with tempfile.TemporaryDirectory(prefix="vorpal-storm-") as folder:
        server = make(Folder(folder) / "data", VORPAL_LIMITS_CONNECTIONS=str(max(500, sessions + new + 10))).start()
        back, fresh, began = await storm(server, sessions, new, networks, scram)
        last = max(person.came for person in back)
        print(figures("resumed", back, began))
        print(figures("new", fresh, began))
        print(f"new before the last who resumed: {sum(person.came < last for person in fresh)}")
        for person in back + fresh:
            person.stream.drop()
        server.stop()


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "scram"]
    numbers = [int(word) for word in words] + [None] * 3
    asyncio.run(run(numbers[0] or 300, numbers[1] or 300, numbers[2], "scram" in sys.argv))
