"""Rosters, subscriptions and presence (RFC 6121 §2-§4)."""

from client import until


def item(push, jid):
    """The content of a push about a contact."""
    found = push["roster"]["items"]
    return {str(k): v for k, v in found.items()}.get(str(jid))


async def test_every_resource_is_told_of_every_change_of_the_roster(server, connect):
    user, friend = server.add_user(), server.add_user("friend")
    one = await connect(server, user, "one").online()
    two = await connect(server, user, "two").online()
    for name, groups in (("Friend", ["A"]), ("Best friend", ["A", "B & <C>"])):
        two.pushes.clear()
        await one.update_roster(str(friend), name=name, groups=groups)
        push = await until(lambda: two.pushes, "the push")
        assert item(push[0], friend)["name"] == name
        assert sorted(item(push[0], friend)["groups"]) == groups
    two.pushes.clear()
    await one.del_roster_item(str(friend))
    push = await until(lambda: two.pushes, "the push")
    assert item(push[0], friend)["subscription"] == "remove"
    assert str(friend) not in await one.contacts()


async def test_two_users_subscribe_to_each_other_and_part(server, connect):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one").online()
    b = await connect(server, b_user, "one").online()

    for asks, answers in ((a, b), (b, a)):
        me, them = answers.boundjid.bare, asks.boundjid.bare
        asks.send_presence_subscription(me)
        await until(lambda: answers.seen(them, "subscribe"), "the request")
        answers.send_presence(pto=them, ptype="subscribed")
        await until(lambda: asks.seen(me, "subscribed"), "the answer")
        await until(lambda: asks.seen(f"{me}/one", "available"), "the presence behind it")
    for client, other in ((a, b_user), (b, a_user)):
        assert (await client.contacts())[str(other)]["subscription"] == "both"

    a.send_presence(pshow="away", pstatus="at lunch & <out>")
    await until(lambda: b.seen(f"{a_user}/one", "away"), "the new presence")
    assert b.seen(f"{a_user}/one", "away")[-1]["status"] == "at lunch & <out>"

    late = await connect(server, b_user, "late").online()
    await until(lambda: late.seen(f"{a_user}/one", "away"), "the presence for a later session")

    b.presences.clear()
    await a.leave()
    await until(lambda: b.seen(f"{a_user}/one", "unavailable"), "the end of it")

    await b.del_roster_item(str(a_user))
    assert str(a_user) not in await b.contacts()
    a = await connect(server, a_user, "two").started()
    assert (await a.contacts())[str(b_user)]["subscription"] == "none"


async def test_a_request_waits_for_a_user_who_is_away(server, connect):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one").online()
    a.send_presence_subscription(str(b_user))
    await until(lambda: any((item(p, b_user) or {}).get("ask") for p in a.pushes), "the request on its way")
    b = await connect(server, b_user, "one").online()
    await until(lambda: b.seen(str(a_user), "subscribe"), "the request")
    b.send_presence(pto=str(a_user), ptype="unsubscribed")
    await until(lambda: a.seen(str(b_user), "unsubscribed"), "the refusal")
    assert (await a.contacts())[str(b_user)]["subscription"] == "none"
