"""XEP-0198 with slixmpp's own stream management: connections that break. `test_kills.py` covers a killed server."""

import asyncio

from client import until


def drop(client):
    """Drops the connection without closing the stream."""
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
