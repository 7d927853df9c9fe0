"""Deleted content is in no file any more: soon, while the server is running, and after it has stopped."""

import asyncio
import contextlib
import sqlite3

import pytest

import raw
from server import Server
from traces import gone, traces

MESSAGES = 3000
CONTACTS = 150
# Within so many seconds of the last write on a quiet server; docs/handbook/users.md says so.
PROMISED = 10


class Person:
    """A user whose messages and contacts can be distinguished from everybody else's."""

    def __init__(self, server, name):
        self.server, self.user = server, server.add_user(name)
        self.bodies = [f"{name}-says-{n:05}-{'so' * (n % 90)}." for n in range(MESSAGES)]
        self.contacts = [f"{name}-contact-{n:03}" for n in range(CONTACTS)]
        # What may not be found once all of it is deleted.
        self.said = rf"{name}-says-\d{{5}}-"
        self.known = rf"{name}-contact-\d{{3}}(?:@elsewhere|-name|-group)"
        self.address = str(self.user)

    async def come(self):
        self.session = await raw.Session(self.server, self.user).log_in()
        self.listening = asyncio.create_task(self.session.listen())
        return self

    async def add_contacts(self):
        for contact in self.contacts:
            self.session.send(f"<iq type='set' id='{contact}'><query xmlns='jabber:iq:roster'><item "
                              f"jid='{contact}@elsewhere.example' name='{contact}-name {'x' * 60}'>"
                              f"<group>{contact}-group</group></item></query></iq>")
        await raw.until(lambda: all(c in self.session.answers for c in self.contacts), "the contacts", [self.listening])

    async def say(self, to, bodies):
        for n, body in enumerate(bodies):
            self.session.send(f"<message to='{to.user.jid}' type='chat'><body>{body}</body></message>")
            if n % 40 == 39:
                self.session.ask()
                await raw.until(lambda: len(self.session.unacked) < 40, "acknowledgements", [self.listening])
        self.session.ask()
        await raw.until(lambda: not self.session.unacked, "acknowledgements", [self.listening])

    async def hears(self, count):
        await raw.until(lambda: len(self.session.messages) >= count, "the messages", [self.listening])

    async def go(self):
        """Ends the session when the server knows that everything was received: an archive keeps messages that no session has taken."""
        self.session.answer()
        self.session.send("<iq type='get' id='last'><ping xmlns='urn:xmpp:ping'/></iq>")
        await raw.until(lambda: "last" in self.session.answers, "that the server has read everything", [self.listening])
        self.session.answer()
        self.session.stream.write("</stream:stream>")
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.listening, raw.PATIENCE)
        self.session.stream.drop()


@pytest.fixture
def server(tmp_path):
    # Those who write here are as fast as the server.
    server = Server(tmp_path / "data", VORPAL_LIMITS_TRAFFIC="100 MB/s").start()
    yield server
    server.stop()
    assert server.complaints() == []


def everything(*people):
    return "|".join(pattern for person in people for pattern in (person.said, person.known))


def there(server, pattern):
    """Number of different texts in the files."""
    return len({text for _, text in traces(server.data, pattern)})


async def conversation(server):
    """Four people with archives, two and two, in each other's pages."""
    people = [await Person(server, name).come() for name in ("abel", "beth", "carl", "dora")]
    abel, beth, carl, dora = people
    await asyncio.gather(*(person.add_contacts() for person in people))
    for piece in range(0, MESSAGES, 100):
        words = slice(piece, piece + 100)
        await asyncio.gather(abel.say(beth, abel.bodies[words]), beth.say(abel, beth.bodies[words]),
                             carl.say(dora, carl.bodies[words]), dora.say(carl, dora.bodies[words]))
    await asyncio.gather(*(person.hears(MESSAGES) for person in people))
    return people


async def test_a_removed_account_leaves_nothing_in_the_files(server):
    people = await conversation(server)
    abel, beth, carl, dora = people
    for person in people:
        await person.go()
    assert there(server, abel.said) == MESSAGES and there(server, abel.known) == 3 * CONTACTS
    # Of one side of a conversation the other keeps what was said, and nothing else.
    server.command("user", "rm", abel.address, "--yes")
    took = await gone(server.data, abel.known, PROMISED)
    print(f"the contacts of one were gone after {took:.1f} s")
    assert there(server, abel.said) == MESSAGES

    server.command("user", "rm", beth.address, "--yes")
    took = await gone(server.data, everything(abel, beth) + f"|{abel.address}|{beth.address}", PROMISED)
    print(f"everything of both was gone after {took:.1f} s")
    # The others have lost nothing, and this finds what is there.
    assert there(server, carl.said) == there(server, dora.said) == MESSAGES and there(server, carl.known) == 3 * CONTACTS
    listener = await dora.come()
    assert len(await listener.session.archive()) == 2 * MESSAGES
    await listener.go()

    # A removal right before the end.
    server.command("user", "rm", str(carl.user), "--yes")
    server.command("user", "rm", str(dora.user), "--yes")
    server.stop()
    assert traces(server.data, everything(*people)) == set()


async def test_a_removal_without_a_server_leaves_nothing_either(server):
    people = await conversation(server)
    for person in people:
        await person.go()
    server.stop()
    for person in people:
        server.command("user", "rm", str(person.user), "--yes")
    assert traces(server.data, everything(*people)) == set()


async def test_after_a_kill_the_next_start_erases(server):
    people = await conversation(server)
    for person in people:
        await person.go()
        server.command("user", "rm", str(person.user), "--yes")
    server.kill()
    server.start()
    took = await gone(server.data, everything(*people), PROMISED)
    print(f"gone after {took:.1f} s")


def two_hours_pass(database):
    """Makes all messages older: no archive deletes messages younger than an hour. An id is a time in microseconds."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as store:
        store.execute("PRAGMA secure_delete = ON")
        for table in ("log", "log_owner", "log_peer"):
            store.execute(f"UPDATE {table} SET id = id - 7200000000")
        store.execute("UPDATE meta SET value = value - 7200000000 WHERE name = 'indexed'")
        # This left copies: let the server think of it as a file that it has not checked yet.
        store.execute("DELETE FROM meta WHERE name = 'scan'")


async def test_what_an_archive_lets_expire_leaves_nothing(server):
    people = await conversation(server)
    for person in people:
        await person.go()
    server.stop()
    two_hours_pass(server.data / "vorpal.db")
    server.env["VORPAL_MODULES_MAM_KEEP"] = "1h"
    server.start()
    # 512 messages of one archive after the other go in a second; then it is quiet.
    took = await gone(server.data, "|".join(person.said for person in people), 90 + PROMISED)
    print(f"gone after {took:.1f} s")
    assert all(there(server, person.known) == 3 * CONTACTS for person in people)
