"""XEP-0049 with the two plugins that use it: private storage, and bookmarks in it (XEP-0048)."""

import contextlib

import pytest
from slixmpp.exceptions import IqError
from slixmpp.plugins.xep_0048 import Bookmarks
from slixmpp.xmlstream import ElementBase

from client import until


class Prefs(ElementBase):
    """Example 1 of the text."""
    name = plugin_attrib = "exodus"
    namespace = "exodus:prefs"
    interfaces = sub_interfaces = {"defaultnick"}


class Reserved(ElementBase):
    name, namespace, plugin_attrib, interfaces = "vCard", "vcard-temp", "vcard", set()


def prepare(client):
    client.register_plugin("xep_0048")
    for stanza in (Prefs, Reserved):
        client["xep_0049"].register(stanza)
    return client


async def nick(client):
    return (await client["xep_0049"].retrieve("exodus"))["private"]["exodus"]["defaultnick"]


async def test_what_one_client_stores_the_others_of_the_user_find(server, connect):
    user, other = server.add_user("a"), server.add_user("b")
    one, two = [await prepare(connect(server, user, resource)).online() for resource in ("one", "two")]
    stranger = await prepare(connect(server, other, "one")).online()
    assert "jabber:iq:private" in (await one["xep_0030"].get_info(jid="localhost"))["disco_info"]["features"]

    assert await nick(one) == ""
    prefs = Prefs()
    prefs["defaultnick"] = "Hamlet"
    await one["xep_0049"].store(prefs)
    assert [await nick(client) for client in (one, two, stranger)] == ["Hamlet", "Hamlet", ""]

    bookmarks = Bookmarks()
    bookmarks.add_conference("theplay@conference.example.org", "JC", autojoin=True, name="The Play's the Thing")
    bookmarks.add_url("https://example.org/", "An address")
    await two["xep_0048"].set_bookmarks(bookmarks)
    found = (await one["xep_0048"].get_bookmarks())["private"]["bookmarks"]
    assert [(room["jid"], room["nick"], room["name"], room["autojoin"]) for room in found["conferences"]] == [
        ("theplay@conference.example.org", "JC", "The Play's the Thing", True)]
    assert [link["url"] for link in found["urls"]] == ["https://example.org/"]
    assert await nick(two) == "Hamlet", "each by its name"


async def test_what_is_refused_is_refused_with_the_error_of_the_text(server, connect):
    user, other = server.add_user("a"), server.add_user("b")
    client = await prepare(connect(server, user, "one")).online()
    iq = client.make_iq_get(ito=str(other))
    iq["private"].enable("exodus")
    empty = client.make_iq_get()
    empty.enable("private")
    for refused, condition in ((client["xep_0049"].store(Reserved()), "not-acceptable"),
                               (client["xep_0049"].retrieve("vcard"), "not-acceptable"),
                               (iq.send(), "service-unavailable"),
                               (empty.send(), "bad-request")):
        with pytest.raises(IqError) as error:
            await refused
        assert error.value.condition == condition


async def test_what_was_answered_is_there_after_a_kill_and_gone_with_the_account(own_server, connect):
    server = own_server
    user = server.add_user("a")
    client = await prepare(connect(server, user, "one", smacks=True)).online()
    for number in range(20):
        prefs = Prefs()
        prefs["defaultnick"] = f"nick {number}"
        await client["xep_0049"].store(prefs)
    kept = f"nick {number}"
    server.kill()
    server.start()
    await until(lambda: client.times("session_resumed"), "the session goes on")
    assert await nick(client) == kept

    await client.leave()
    server.command("user", "rm", user.jid, "--yes")
    server.command("user", "add", user.jid, stdin=user.password + "\n")
    again = await prepare(connect(server, user, "two")).online()
    assert await nick(again) == ""
    server.stop()
    for file in server.data.rglob("*"):
        with contextlib.suppress(IsADirectoryError):
            assert b"nick 1" not in file.read_bytes(), file
