"""XEP-0054 with slixmpp's plugin: one's own vCard, another's, and what becomes of it with the account."""

import pytest
from slixmpp.exceptions import IqError

PHOTO = bytes(range(256)) * 200  # 51,200 bytes


def prepare(client):
    client.register_plugin("xep_0054")
    return client


def card(client, name, photo=None):
    vcard = client["xep_0054"].make_vcard()
    vcard["FN"] = name
    vcard["NICKNAMES"] = [name.lower()]
    if photo:
        vcard["PHOTO"]["TYPE"] = "image/png"
        vcard["PHOTO"]["BINVAL"] = photo
    return vcard


async def viewed(client, jid=None):
    return (await client["xep_0054"].get_vcard(jid=jid and str(jid), cached=False, local=False))["vcard_temp"]


async def condition(asked):
    with pytest.raises(IqError) as error:
        await asked
    return error.value.condition


async def test_what_a_user_sets_everybody_sees(server, connect):
    user, other = server.add_user("a"), server.add_user("b")
    one, two = [await prepare(connect(server, user, resource)).online() for resource in ("one", "two")]
    stranger = await prepare(connect(server, other, "one")).online()
    assert "vcard-temp" in (await one["xep_0030"].get_info(jid="localhost"))["disco_info"]["features"]

    assert await condition(viewed(one)) == "item-not-found"
    assert await condition(viewed(stranger, user)) == "service-unavailable"
    assert await condition(viewed(stranger, "nobody@localhost")) == "service-unavailable"
    await one["xep_0054"].publish_vcard(vcard=card(one, "Romeo", PHOTO))
    for seen in (await viewed(two), await viewed(stranger, user)):
        assert (seen["FN"], seen["PHOTO"]["TYPE"], seen["PHOTO"]["BINVAL"]) == ("Romeo", "image/png", PHOTO)

    assert await condition(stranger["xep_0054"].publish_vcard(vcard=card(stranger, "Somebody"), jid=str(user))) == "service-unavailable"
    await two["xep_0054"].publish_vcard(vcard=card(two, "Romeo Montague"))
    seen = await viewed(stranger, user)
    assert (seen["FN"], seen["PHOTO"]["BINVAL"]) == ("Romeo Montague", b""), "the new one replaces the old one as a whole"


async def test_it_is_there_after_a_kill_also_of_a_user_who_is_not(own_server, connect):
    server = own_server
    user, other = server.add_user("a"), server.add_user("b")
    client = await prepare(connect(server, user, "one")).online()
    await client["xep_0054"].publish_vcard(vcard=card(client, "Romeo", PHOTO))
    server.kill()
    server.start()
    viewer = await prepare(connect(server, other, "one")).online()
    assert (await viewed(viewer, user))["PHOTO"]["BINVAL"] == PHOTO
