"""`kill -9` in the middle of a chat, with slixmpp's own stream management and a third client that watches.

KILLS: number of kills (20).
"""

import asyncio
import os

from client import until

KILLS = int(os.environ.get("KILLS", 20))


async def settled(client):
    """All that the client has sent is acknowledged.

    slixmpp sends its requests from an outgoing filter, so a request goes out before the stanza that it is about, and none covers
    the newest stanza. This function requests an acknowledgement for each stanza, including those that slixmpp sends on its own,
    such as the answer to a roster push that was repeated when it resumed. Every request must be answered.
    """
    management = client["xep_0198"]
    await client.waiting_queue.join()
    asked = None

    def answered():
        nonlocal asked
        if management.unacked_queue and asked != management.seq:
            asked = management.seq
            management.request_ack()
        return not management.unacked_queue

    state = lambda: ([s["id"] for _, s in management.unacked_queue], management.last_ack, management.seq, asked)
    try:
        await until(answered, "an acknowledgement of everything")
    except AssertionError as error:
        raise AssertionError(f"{client.boundjid}: {state()}, {client.events[-6:]}") from error


async def befriend(watcher, other):
    """The watcher sees the other's presence."""
    watcher.send_presence_subscription(other.boundjid.bare)
    await until(lambda: other.seen(watcher.boundjid.bare, "subscribe"), "the request")
    other.send_presence(pto=watcher.boundjid.bare, ptype="subscribed")
    await until(lambda: watcher.seen(other.boundjid.full, "available"), "the presence")


async def test_two_who_chat_and_one_who_watches_do_not_notice_that_the_server_is_killed(own_server, connect):
    """slixmpp itself drops a stanza that it was about to write when the connection broke, and sends messages from during a
    break before those it has to repeat. So nothing is sent during breaks, and only messages that it saw acknowledged count.
    """
    server = own_server
    users = [server.add_user(name) for name in ("a", "b", "watcher")]
    everybody = a, b, watcher = [connect(server, user, "one", smacks=True) for user in users]
    for client in everybody:
        client.register_plugin("xep_0359")
        await client.online()
    away_user = server.add_user("away")
    for other in (a, b):
        await befriend(watcher, other)
    sent, stop = {a: [], b: []}, asyncio.Event()

    async def chat(client, to):
        while not stop.is_set():
            if client.is_live():
                number = len(sent[client])
                sent[client].append(client.say(to, f"number {number}", id=f"{client.boundjid.user}-{number}"))
                if number % 5 == 0:
                    client.say(away_user, f"number {number}", id=f"away-{client.boundjid.user}-{number}")
            await asyncio.sleep(0.002)

    chats = [asyncio.create_task(chat(a, users[1])), asyncio.create_task(chat(b, users[0]))]
    for kill in range(1, KILLS + 1):
        said = {client: len(ids) for client, ids in sent.items()}
        await until(lambda: all(len(sent[client]) >= said[client] + 30 for client in said), "some messages")
        server.kill()
        server.start()
        await until(lambda: all(c.times("session_resumed") == kill for c in everybody), f"resumption {kill} of all")
    stop.set()
    await asyncio.gather(*chats)
    for client in everybody:
        await settled(client)
        assert client.times("session_start") == 1 and not client.times("sm_failed")
    away = connect(server, away_user, "one")
    away.register_plugin("xep_0359")
    await away.online()

    for client, other in ((a, b), (b, a)):
        acked = [id for id in sent[client] if id in client.acked]
        assert len(acked) >= len(sent[client]) - 2 * KILLS
        # A stanza between others, to know that all is there.
        last = client.say(other.boundjid.bare, "the last")
        ids = lambda: [m["id"] for m in other.chats]
        await until(lambda: last in ids(), "the last message")
        # After a crash what was not known to be taken comes again, under its own ids; the first of each is in order.
        assert list(dict.fromkeys(ids())) == acked + [last]
        given = {(m["id"], m["stanza_id"]["id"]) for m in other.chats}
        assert len(given) == len(acked) + 1, "the same message under two stanza ids"

        # Who was away all the time is given each of them once.
        name = f"away-{client.boundjid.user}-"
        acked = [id for id in client.acked if id.startswith(name)]
        waited = lambda: [m["id"] for m in away.chats if m["id"].startswith(name)]
        await until(lambda: waited()[-1:] == acked[-1:], "what waited")
        assert waited() == sorted(set(acked), key=lambda id: int(id.rpartition("-")[2]))

    # Nobody went away; and to show that the watcher would have seen it: somebody does now.
    assert [str(p) for p in watcher.presences if p["type"] == "unavailable"] == []
    a.send_presence(ptype="unavailable")
    await until(lambda: watcher.seen(a.boundjid.full, "unavailable"), "a real absence")
