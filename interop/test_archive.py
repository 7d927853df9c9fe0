"""XEP-0313 with slixmpp's own plugin: the history of two people, page by page, before and after a restart."""

import slixmpp
from client import until
from slixmpp.xmlstream.handler import Collector
from slixmpp.xmlstream.matcher import MatchXPath

MESSAGES = 200


async def archivist(connect, server, user, resource):
    client = connect(server, user, resource)
    for plugin in ("xep_0059", "xep_0313", "xep_0359", "xep_0441"):
        client.register_plugin(plugin)
    return await client.online()


def told(results):
    """The content of an archive, as pairs of id and body."""
    results = [m["mam_result"] for m in results]
    return [(r["id"], r["forwarded"]["stanza"]["body"]) for r in results]


def live(client):
    """The messages delivered live, likewise."""
    return [(m["stanza_id"]["id"], m["body"]) for m in client.chats if m["body"]]


async def paged(client, size, **options):
    pages = client["xep_0313"].retrieve(iterator=True, rsm={"max": size}, **options)
    return [told(page["mam"]["results"]) async for page in pages]


async def flipped(client, size):
    iq = client.make_iq_set()
    iq["mam"]["queryid"] = "flipped"
    iq["mam"]["rsm"]["max"] = str(size)
    iq["mam"]["rsm"]["before"] = True
    iq["mam"].xml.append(slixmpp.xmlstream.ET.Element("{urn:xmpp:mam:2}flip-page"))
    results = Collector("flipped", MatchXPath("{jabber:client}message/{urn:xmpp:mam:2}result"))
    client.register_handler(results)
    fin = (await iq.send())["mam_fin"]
    return told(results.stop()), fin


async def test_the_history_is_the_same_in_every_direction_and_after_a_restart(own_server, connect):
    server = own_server
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await archivist(connect, server, a_user, "one")
    b = await archivist(connect, server, b_user, "one")
    bodies = [f"number {n}" for n in range(MESSAGES)]
    for n, body in enumerate(bodies):
        (a if n % 2 else b).say(b_user if n % 2 else a_user, body)
        if n % 2:
            await until(lambda: body in b.bodies(), body)
        else:
            await until(lambda: body in a.bodies(), body)
    heard = {"a": live(a), "b": live(b)}
    assert all(len(id) == 16 for ids in heard.values() for id, _ in ids)

    forwards = await paged(a, 30)
    assert [len(page) for page in forwards if page] == [30] * 6 + [20]
    history = [entry for page in forwards for entry in page]
    assert [body for _, body in history] == bodies
    assert len({id for id, _ in history}) == MESSAGES
    assert [entry for entry in history if entry in heard["a"]] == heard["a"]

    backwards = await paged(a, 30, reverse=True)
    assert [entry for page in reversed(backwards) for entry in page] == history

    # Both have an archive, with ids of their own.
    other = [entry for page in await paged(b, 50, with_jid=slixmpp.JID(str(a_user))) for entry in page]
    assert [body for _, body in other] == bodies
    assert not {id for id, _ in other} & {id for id, _ in history}
    assert [entry for entry in other if entry in heard["b"]] == heard["b"]

    page, fin = await flipped(a, 30)
    assert page == history[:-31:-1]
    assert (fin["rsm"]["first"], fin["rsm"]["last"]) == (history[-30][0], history[-1][0])

    metadata = (await a["xep_0313"].get_archive_metadata())["mam_metadata"]
    assert (metadata["start"]["id"], metadata["end"]["id"]) == (history[0][0], history[-1][0])

    await a.leave()
    await b.leave()
    server.stop()
    server.start()
    again = await archivist(connect, server, a_user, "two")
    assert [entry for page in await paged(again, 40) for entry in page] == history


async def test_preferences_hold_from_then_on(server, connect):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await archivist(connect, server, a_user, "one")
    b = await connect(server, b_user, "one").online()
    default, always, never = await a["xep_0441"].get_preferences()
    assert (default, list(always), list(never)) == ("always", [], [])
    b.say(a_user, "kept")
    await until(lambda: a.bodies() == ["kept"], "the first")
    prefs = await a["xep_0441"].set_preferences(default="always", never=[slixmpp.JID(str(b_user))])
    assert {str(jid) for jid in prefs["mam_prefs"]["never"]} == {str(b_user)}
    b.say(a_user, "not kept")
    await until(lambda: a.bodies() == ["kept", "not kept"], "the second")
    results = (await a["xep_0313"].retrieve())["mam"]["results"]
    assert [body for _, body in told(results)] == ["kept"]


async def test_an_account_says_what_its_archive_can_do(server, connect):
    a = await archivist(connect, server, server.add_user("a"), "one")
    info = await a["xep_0030"].get_info(jid=a.boundjid.bare)
    features = info["disco_info"]["features"]
    assert {"urn:xmpp:mam:2", "urn:xmpp:mam:2#extended", "urn:xmpp:sid:0"} <= features
    fields = await a["xep_0313"].get_fields()
    assert {"with", "start", "end", "before-id", "after-id", "ids", "include-groupchat"} <= set(fields.get_fields())
