"""XEP-0198 with slixmpp's own stream management: connections that break, and a server that is killed."""

import asyncio

from client import until


def drop(client):
    """The connection is gone, and nobody said so."""
    client.transport.abort()


async def settled(client):
    """All that the client has sent is acknowledged."""
    queue = client["xep_0198"].unacked_queue
    await client.waiting_queue.join()
    client["xep_0198"].request_ack()
    await until(lambda: not queue, "an acknowledgement of everything")


async def test_stream_management_is_enabled_and_acknowledges(server, connect):
    a = await connect(server, server.add_user("a"), "one", smacks=True).online()
    assert a.times("sm_enabled") == 1 and a["xep_0198"].sm_id
    b_user = server.add_user("b")
    ids = [a.say(b_user, f"number {n}") for n in range(20)]
    await settled(a)
    assert [id for id in a.acked if id in ids] == ids


async def test_what_came_during_a_break_arrives_once_and_in_order(server, connect):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one", smacks=True).online()
    b = await connect(server, b_user, "one", smacks=True).online()
    sent = []
    for round in range(3):
        sent += [f"round {round} number {n}" for n in range(10)]
        for body in sent[-10:-5]:
            a.say(b_user, body)
        drop(b)
        for body in sent[-5:]:
            a.say(b_user, body)
        await until(lambda: b.times("session_resumed") == round + 1, "the resumption")
    await until(lambda: len(b.bodies()) >= len(sent), "all messages")
    await settled(a)
    assert b.bodies() == sent
    assert b.times("session_start") == 1 and not b.times("sm_failed")


async def test_what_was_sent_into_a_break_arrives_once_and_in_order(server, connect):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one", smacks=True).online()
    b = await connect(server, b_user, "one", smacks=True).online()
    sent = [f"number {n}" for n in range(30)]
    for n, body in enumerate(sent):
        a.say(b_user, body)
        if n == 14:
            await asyncio.sleep(0)
            drop(a)
    await until(lambda: a.times("session_resumed") == 1, "the resumption")
    await settled(a)
    await until(lambda: len(b.bodies()) >= len(sent), "all messages")
    assert b.bodies() == sent


async def test_contacts_do_not_see_a_break(server, connect):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one", smacks=True).online()
    b = await connect(server, b_user, "one").online()
    b.send_presence_subscription(str(a_user))
    await until(lambda: a.seen(str(b_user), "subscribe"), "the request")
    a.send_presence(pto=str(b_user), ptype="subscribed")
    await until(lambda: b.seen(f"{a_user}/one", "available"), "the presence")
    b.presences.clear()
    drop(a)
    await until(lambda: a.times("session_resumed") == 1, "the resumption")
    a.say(b_user, "still here")
    await until(lambda: b.bodies() == ["still here"], "a message")
    assert b.seen(str(a_user)) == []


async def test_a_killed_server_loses_nothing_that_it_acknowledged(own_server, connect):
    """Two users chat without pause; the server is killed and started again, twice.

    slixmpp itself drops a stanza that it was about to write when the connection went, and sends what was said during a
    break before what it has to repeat. So nothing is said during breaks, and what counts is what it saw acknowledged.
    """
    server = own_server
    a_user, b_user, away_user = server.add_user("a"), server.add_user("b"), server.add_user("away")
    a = await connect(server, a_user, "one", smacks=True).online()
    b = await connect(server, b_user, "one", smacks=True).online()
    sent, stop = {a: [], b: []}, asyncio.Event()

    async def chat(client, to):
        while not stop.is_set():
            if client.is_live():
                number = len(sent[client])
                sent[client].append(client.say(to, f"number {number}", id=f"{client.boundjid.user}-{number}"))
                if number % 5 == 0:
                    client.say(away_user, f"number {number}", id=f"away-{client.boundjid.user}-{number}")
            await asyncio.sleep(0.002)

    chats = [asyncio.create_task(chat(a, b_user)), asyncio.create_task(chat(b, a_user))]
    for round in (1, 2):
        await until(lambda: min(len(s) for s in sent.values()) >= round * 150, "some messages")
        server.kill()
        server.start()
        await until(lambda: a.times("session_resumed") == b.times("session_resumed") == round, "both resumptions")
    await until(lambda: min(len(s) for s in sent.values()) >= 450, "some more messages")
    stop.set()
    await asyncio.gather(*chats)
    for client in (a, b):
        await settled(client)
        assert client.times("session_start") == 1 and not client.times("sm_failed")
    away = await connect(server, away_user, "one").online()

    for client, other in ((a, b), (b, a)):
        acked = [id for id in sent[client] if id in client.acked]
        assert len(acked) >= len(sent[client]) - 4
        ids = lambda: [m["id"] for m in other.chats]
        await until(lambda: ids()[-1:] == acked[-1:], "the last message")
        # After a crash what was not known to be taken comes again, under its own id; the first of each is in order.
        assert list(dict.fromkeys(ids())) == acked

        # Who was away all the time is given each of them once.
        name = f"away-{client.boundjid.user}-"
        acked = [id for id in client.acked if id.startswith(name)]
        waited = lambda: [m["id"] for m in away.chats if m["id"].startswith(name)]
        await until(lambda: waited()[-1:] == acked[-1:], "what waited")
        assert waited() == sorted(set(acked), key=lambda id: int(id.rpartition("-")[2]))
