"""An account is removed while others write to it: its password, its sessions and its contacts end at once, without a restart."""

import asyncio

import pytest

import raw
from server import Server, User

# Each try catches the removal at another moment of the traffic.
TRIES = 12
WRITERS = 3


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "data", VORPAL_LIMITS_TRAFFIC="100 MB/s", VORPAL_LIMITS_CONNECTION_RATE="6000/min").start()
    yield server
    server.stop()
    assert server.complaints() == []


async def refused(server, user):
    """Whether the server refuses a password."""
    stream = await raw.Stream.open(server)
    try:
        await stream.want(raw.FEATURES)
        with pytest.raises(raw.Wrong):
            await asyncio.wait_for(stream.authenticate(user), raw.PATIENCE)
    finally:
        stream.drop()


async def write(session, to, stop):
    """Writes until told to stop. What the account cannot take any more comes back as an error."""
    words = f"<message to='{to}' type='chat'><body>are you there?</body></message>" * 50
    while not stop.is_set():
        session.stream.write(words)
        await session.stream.writer.drain()
        await asyncio.sleep(0)


async def test_a_removed_account_is_gone_whatever_is_written_to_it_meanwhile(server):
    juliet = server.add_user("juliet")
    contact = await raw.Session(server, juliet, managed=False).log_in()
    listening = [asyncio.create_task(contact.listen())]
    # Whoever has not requested the roster is not told of subscriptions.
    contact.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
    await raw.until(lambda: "roster" in contact.answers, "the roster", listening)
    writers = [await raw.Session(server, server.add_user("stranger"), managed=False).log_in() for _ in range(WRITERS)]
    listening += [asyncio.create_task(writer.listen()) for writer in writers]
    address = None
    for attempt in range(TRIES):
        if address is None:
            old = server.add_user("romeo")
            address = str(old)
        else:
            old = User(address, f"secret {attempt}")
            server.command("user", "add", address, "--password", old.password)
        plain = await raw.Session(server, old, "first", managed=False).log_in()
        waiting = await raw.Session(server, old, "second").log_in()
        reading = asyncio.create_task(plain.listen())
        contact.send(f"<presence type='subscribe' to='{address}'/>")
        await raw.until(lambda: any(kind == "subscribe" for _, kind in plain.presences), "the request", listening)
        plain.send(f"<presence type='subscribed' to='{juliet.jid}'/>")
        await raw.until(lambda: any(kind == "subscribed" for _, kind in contact.presences), "the approval", listening)
        contact.presences.clear()
        # The other session waits to be resumed, in every second try.
        if attempt % 2:
            waiting.stream.drop()
        stop = asyncio.Event()
        writing = [asyncio.create_task(write(writer, address, stop)) for writer in writers]
        await asyncio.to_thread(server.command, "user", "rm", "--yes", address)
        # The command has ended: from here on nothing of the account may be there.
        await refused(server, old)
        with pytest.raises((raw.Wrong, ConnectionError)):
            await waiting.log_in()
        await raw.until(lambda: any(kind == "unsubscribed" for _, kind in contact.presences), "the end", listening)
        contact.presences.clear()
        stop.set()
        await asyncio.gather(*writing)
        with pytest.raises(raw.Wrong, match="not-authorized"):
            await asyncio.wait_for(reading, raw.PATIENCE)
        plain.stream.drop()
        contact.send(f"<iq type='get' id='roster{attempt}'><query xmlns='jabber:iq:roster'/></iq>")
        await raw.until(lambda: f"roster{attempt}" in contact.answers, "the roster", listening)
        items = contact.answers[f"roster{attempt}"].iter("{jabber:iq:roster}item")
        assert [item.get("subscription") for item in items if item.get("jid") == address] == ["none"], attempt
    for task in listening:
        task.cancel()
    for session in [contact, *writers]:
        session.stream.drop()
