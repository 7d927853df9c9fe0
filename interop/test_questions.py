"""Queries of a client to the server: ping, version, time, last activity, discovery (XEP-0199, 0092, 0202, 0012, 0030)."""

from datetime import datetime, timedelta, timezone

import pytest
from slixmpp.exceptions import IqError

import slixmpp


@pytest.fixture
async def client(server, connect):
    return await connect(server, server.add_user(), "one").online()


async def test_ping(client):
    assert await client["xep_0199"].ping("localhost") < 10
    assert await client["xep_0199"].ping(client.boundjid.bare) < 10


async def test_version(client):
    answer = (await client["xep_0092"].get_version("localhost"))["software_version"]
    assert answer["name"] == "Vorpal"
    assert answer["version"]


async def test_time(client):
    """slixmpp appends a second `Z` to the one that §3 requires before it parses the time: so the text is parsed here."""
    answer = (await client["xep_0202"].get_entity_time("localhost")).xml
    assert answer.findtext("{urn:xmpp:time}time/{urn:xmpp:time}tzo") == "+00:00"
    utc = answer.findtext("{urn:xmpp:time}time/{urn:xmpp:time}utc")
    assert utc.endswith("Z")
    assert abs(datetime.fromisoformat(utc) - datetime.now(timezone.utc)) < timedelta(seconds=10)


async def test_last_activity_of_the_server_is_its_uptime(client):
    answer = await client["xep_0012"].get_last_activity(slixmpp.JID("localhost"))
    assert 0 <= answer["last_activity"]["seconds"] < 3600


async def test_discovery_names_what_is_tested_here(client):
    info = (await client["xep_0030"].get_info("localhost"))["disco_info"]
    assert ("server", "im") in {(category, kind) for category, kind, *_ in info["identities"]}
    assert set(info["features"]) >= {
        "urn:xmpp:ping", "urn:xmpp:time", "jabber:iq:version", "jabber:iq:last", "urn:xmpp:carbons:2",
        "urn:xmpp:blocking", "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items",
    }
    items = (await client["xep_0030"].get_items("localhost"))["disco_items"]["items"]
    assert isinstance(items, set)


async def test_an_unknown_question_is_an_error(client):
    iq = client.make_iq_get(queryxmlns="urn:example:nothing", ito="localhost")
    with pytest.raises(IqError) as error:
        await iq.send()
    assert error.value.condition == "service-unavailable"
