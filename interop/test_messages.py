"""Messages to online users, to offline users, and copies (RFC 6121 §5, XEP-0160, XEP-0203, XEP-0280)."""

from datetime import datetime, timedelta, timezone

from client import until

ODD = "a < b && c > 'd' \"e\"\n\ttab, é, 漢字, 😀, ]]>"


async def test_messages_arrive_in_order_and_unchanged(server, connect):
    a = await connect(server, server.add_user("a"), "one").online()
    b_user = server.add_user("b")
    b = await connect(server, b_user, "one").online()
    sent = [ODD] + [f"number {n}" for n in range(50)]
    for body in sent:
        a.say(b_user, body)
    await until(lambda: len(b.bodies()) >= len(sent), "all messages")
    assert b.bodies() == sent
    assert {m["from"].full for m in b.chats} == {a.boundjid.full}
    assert not any(m["delay"]["stamp"] for m in b.chats)


async def test_messages_wait_for_a_user_who_is_away(server, connect):
    a = await connect(server, server.add_user("a"), "one").online()
    b_user = server.add_user("b")
    sent = [ODD] + [f"number {n}" for n in range(20)]
    before = datetime.now(timezone.utc) - timedelta(seconds=2)
    for body in sent:
        a.say(b_user, body)
    assert await a["xep_0199"].ping("localhost") < 10
    b = connect(server, b_user, "one")
    await b.online()
    await until(lambda: len(b.bodies()) >= len(sent), "all messages")
    a.say(b_user, "live")
    await until(lambda: b.bodies()[-1] == "live", "a live one behind them")
    assert b.bodies() == [*sent, "live"]
    stamps = [m["delay"]["stamp"] for m in b.chats]
    assert all(before <= s <= datetime.now(timezone.utc) for s in stamps[:-1])
    assert stamps[:-1] == sorted(stamps[:-1])
    assert not stamps[-1]

    await b.leave()
    again = await connect(server, b_user, "two").online()
    a.say(b_user, "once more")
    await until(lambda: again.bodies(), "a message")
    assert again.bodies() == ["once more"], "what was taken does not come again"


async def test_other_resources_get_copies_of_what_is_received_and_sent(server, connect):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one").online()
    a2 = await connect(server, a_user, "two").online()
    b = await connect(server, b_user, "one").online()
    b2 = await connect(server, b_user, "two").online()
    for client in (a, a2, b2):
        await client["xep_0280"].enable()
    a.say(f"{b_user}/one", "to one")
    await until(lambda: b.bodies() and b2.copies and a2.copies, "the message and its copies")
    (kind, copy), = b2.copies
    assert (kind, copy["body"], copy["to"].full) == ("received", "to one", f"{b_user}/one")
    (kind, copy), = a2.copies
    assert (kind, copy["body"], copy["from"].full) == ("sent", "to one", f"{a_user}/one")

    # A message to the account goes to both sessions; nobody gets a copy of what he got himself.
    a.say(b_user, "to both")
    await until(lambda: b2.bodies() and len(b.bodies()) == 2 and len(a2.copies) == 2, "the second message")
    await b2["xep_0280"].disable()
    a.say(f"{b_user}/one", "to one again")
    a.say(f"{b_user}/two", "to two")
    await until(lambda: "to two" in b2.bodies(), "the last message")
    assert len(b2.copies) == 1
    assert a.copies == [] and b.copies == []


async def test_a_message_to_nobody_comes_back_as_an_error(server, connect):
    a = await connect(server, server.add_user("a"), "one").online()
    sent = a.say("nobody-at-all@localhost", "hello?")
    await until(lambda: a.errors, "the error")
    assert a.errors[0]["id"] == sent
    assert a.errors[0]["error"]["condition"] == "service-unavailable"
