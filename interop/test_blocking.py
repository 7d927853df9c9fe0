"""XEP-0191 with the other side watching."""

from client import until


async def test_a_blocked_contact_is_cut_off_until_unblocked(server, connect):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one").online()
    a2 = await connect(server, a_user, "two").online()
    b = await connect(server, b_user, "one").online()
    for asks, answers in ((a, b), (b, a)):
        asks.send_presence_subscription(answers.boundjid.bare)
        await until(lambda: answers.seen(asks.boundjid.bare, "subscribe"), "the request")
        answers.send_presence(pto=asks.boundjid.bare, ptype="subscribed")
        await until(lambda: asks.seen(answers.boundjid.full, "available"), "the presence")
    for client in (a, a2):
        assert await client["xep_0191"].get_blocked_jids() == set()

    b.presences.clear()
    await a["xep_0191"].block(str(b_user))
    await until(lambda: b.seen(f"{a_user}/one", "unavailable"), "the blocked one sees the blocker go")
    await until(lambda: a2.times("blocked"), "the other resource is told")
    assert {str(jid) for jid in await a2["xep_0191"].get_blocked_jids()} == {str(b_user)}

    b.say(a_user, "let me in")
    await until(lambda: b.errors, "the refusal")
    assert b.errors[0]["error"]["condition"] == "service-unavailable"
    a.say(b_user, "not even I to him")
    await until(lambda: a.errors, "the refusal of the own message")
    assert a.errors[0]["error"]["condition"] == "not-acceptable"

    b.presences.clear()
    a.send_presence(pstatus="for others only")
    assert await a["xep_0199"].ping("localhost") < 10
    await a["xep_0191"].unblock(str(b_user))
    await until(lambda: b.seen(f"{a_user}/one", "available"), "the presence is back")
    await until(lambda: a2.times("unblocked"), "the other resource is told")
    assert [p["status"] for p in b.seen(f"{a_user}/one")] == ["for others only"]
    b.say(a_user, "at last")
    await until(lambda: a.bodies(), "a message")
    assert a.bodies() == ["at last"]
