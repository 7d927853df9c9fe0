"""The traffic limit of the clients of one account, and the write timeout of a client that does not read."""

import asyncio
import socket
import time

import pytest

from raw import Session, Stream, Wrong
from server import Server

TEXT = "<message to='nobody@localhost/none' type='headline'><body>" + "x" * 900 + "</body></message>"


async def handled(session):
    """Waits until the server has handled everything that was sent."""
    session.ask()
    while session.unacked:
        session.take(await session.stream.read())


async def send(session, size):
    for _ in range(size // len(TEXT)):
        session.send(TEXT)
    await handled(session)


async def test_another_connection_of_an_account_is_no_new_burst(tmp_path):
    server = Server(tmp_path / "data", VORPAL_LIMITS_TRAFFIC="20 KB/s", VORPAL_LIMITS_TRAFFIC_BURST="40 KiB").start()
    try:
        user, other = server.add_user("romeo"), server.add_user("mercutio")
        began = time.monotonic()
        for number in range(3):
            session = await Session(server, user, f"s{number}").log_in()
            await send(session, 40_000)
            session.stream.drop()
        # 120 kB and more, of which 41 at once.
        assert time.monotonic() - began > 3.5
        # Another account has a burst of its own.
        began = time.monotonic()
        session = await Session(server, other).log_in()
        await send(session, 30_000)
        assert time.monotonic() - began < 3.5
        session.stream.drop()
    finally:
        server.stop()
    assert server.complaints() == []


async def test_a_stranger_has_sent_enough_when_it_has_sent_login_bytes(server):
    for said in (" " * 11_000, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='NONE'/>" * 3 + " " * 11_000,
                 "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + "A" * 11_000):
        stream = await Stream.open(server)
        stream.write(said)
        with pytest.raises(Wrong, match="policy-violation"):
            while True:
                await stream.read()
        stream.drop()


async def test_what_is_registered_for_a_session_alone_ends_the_stream_before_it(server):
    for said in ("<r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='0'/>", "<active xmlns='urn:xmpp:csi:0'/>"):
        stream = await Stream.open(server)
        stream.write(said)
        with pytest.raises(Wrong, match="unsupported-stanza-type"):
            while True:
                await stream.read()
        stream.drop()


async def test_a_client_that_takes_nothing_for_too_long_loses_its_connection_and_not_its_session(tmp_path):
    server = Server(tmp_path / "data", VORPAL_LIMITS_WRITE_TIMEOUT="10s", VORPAL_LIMITS_TRAFFIC="100 MB/s").start()
    try:
        sleeper = await Session(server, server.add_user("sleeper")).log_in()
        sender = await Session(server, server.add_user("sender")).log_in()
        sleeper.stream.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.stream.writer.transport.pause_reading()
        for number in range(200):
            sender.send(f"<message to='{sleeper.user.jid}' type='chat' id='{number}'><body>{'.' * 30_000}</body></message>")
        await handled(sender)

        def connected():
            sessions = server.json("session", "list")
            return next(session["connected"] for session in sessions if session["jid"].startswith(sleeper.user.jid))

        assert connected()
        deadline = time.monotonic() + 25
        while connected() and time.monotonic() < deadline:
            await asyncio.sleep(0.25)
        assert not connected()
        sleeper.stream.drop()
        await sleeper.log_in()
        while len(sleeper.messages) < 200:
            sleeper.take(await sleeper.stream.read())
        assert sleeper.resumed == 1
        assert {id for id, _, _ in sleeper.messages} == {str(number) for number in range(200)}
        sleeper.stream.drop()
        sender.stream.drop()
    finally:
        server.stop()
    assert server.complaints() == []
