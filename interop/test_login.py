"""slixmpp logs in: SASL mechanisms, STARTTLS and direct TLS (RFC 6120 §5, §6; XEP-0368).

No mechanism with channel binding: Python has no `tls-exporter`, and TLS 1.3 has nothing else that slixmpp knows.
"""

import pytest

from client import until


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
async def test_the_right_password_is_accepted(server, connect, mechanism):
    user = server.add_user()
    client = await connect(server, user, "one", mechanism=mechanism).started()
    assert client.boundjid.full == f"{user}/one"
    assert client["feature_mechanisms"].mech.name == mechanism
    assert client.times("tls_success") == 1


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"])
async def test_a_wrong_password_is_refused(server, connect, mechanism):
    user = server.add_user()
    client = connect(server, user, "one", mechanism=mechanism, password="wrong")
    await until(lambda: client.times("failed_all_auth"), "the refusal")
    assert not client.times("session_start")


async def test_an_unknown_user_is_refused_like_a_wrong_password(server, connect):
    user = server.add_user()
    user.jid = "nobody@localhost"
    client = connect(server, user, "one")
    await until(lambda: client.times("failed_all_auth"), "the refusal")
    assert not client.times("session_start")


async def test_direct_tls_needs_no_starttls(server, connect):
    client = await connect(server, server.add_user(), "one", direct_tls=True).online()
    assert await client["xep_0199"].ping("localhost") < 10


async def test_the_same_resource_replaces_the_older_session(server, connect):
    user = server.add_user()
    old = await connect(server, user, "one").online()
    new = await connect(server, user, "one").online()
    await until(lambda: old.times("stream_error") and old.times("disconnected"), "the end of the old stream")
    assert await new["xep_0199"].ping("localhost") < 10


async def test_a_new_password_ends_sessions_when_it_is_told_to(server, connect):
    user = server.add_user()
    client = await connect(server, user, "one").online()
    said = server.json("user", "passwd", user.jid, "--password", "another one")
    assert said["done"] and said["notes"][0].startswith(f"sessions of {user} that stay connected: 1; ")
    assert await client["xep_0199"].ping("localhost") < 10
    said = server.json("user", "passwd", user.jid, "--password", "a third one", "--end-sessions")
    assert said["done"] and "notes" not in said and said["server"] == str(server.data / "admin.sock")
    await until(lambda: client.times("disconnected"), "the end of the session")
    user.password = "a third one"
    again = [await connect(server, user, resource).online() for resource in ("two", "three")]
    assert server.json("session", "kick", user.jid)["did"] == f"ended all sessions of {user}"
    await until(lambda: all(client.times("stream_error") for client in again), "the end of both")
