"""Operations on a server in use: stop, start, kick, reconfigure, back up and restore."""

import asyncio
import re
import shutil
import signal
import subprocess
import time

import pytest

import raw
from client import until
from server import ROOT, Server


async def settled(client):
    """All that the client has sent is acknowledged."""
    await client.waiting_queue.join()
    client["xep_0198"].request_ack()
    await until(lambda: not client["xep_0198"].unacked_queue, "an acknowledgement of everything")


@pytest.fixture
def configured(tmp_path):
    """A server with a configuration file. The test checks its log for errors itself."""
    file = tmp_path / "vorpal.toml"
    file.write_text('hosts = ["localhost"]\n')
    server = Server(tmp_path / "data", VORPAL_CONFIG=str(file))
    server.file = file
    server.start()
    yield server
    server.stop()
    assert not [line for line in server.complaints() if "panicked" in line]


def hosts(server):
    """The hosts it serves. The command runs without its file: with a file that cannot be read it would not reach the server."""
    return server.json("status", env=server.env | {"VORPAL_CONFIG": ""})["hosts"]


def refused(server, *words):
    """The error of a command that is refused."""
    with pytest.raises(AssertionError) as error:
        server.command(*words)
    return str(error.value)


async def test_a_server_that_is_told_to_stop_is_replaced_and_everybody_resumes(own_server, connect):
    server = own_server
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one", smacks=True).online()
    b = connect(server, b_user, "one", smacks=True)
    b.register_plugin("xep_0359")
    await b.online()
    a.say(b_user, "before")
    await until(lambda: b.bodies() == ["before"], "a message")
    await settled(a)
    began = time.monotonic()
    server.stop()
    stopped = time.monotonic()
    server.start()
    ready = time.monotonic()
    print(f"stopped after {stopped - began:.3f} s, a new one ready {ready - stopped:.3f} s later")
    assert stopped - began < 20 and ready - stopped < 10
    await until(lambda: a.times("session_resumed") == b.times("session_resumed") == 1, "both resumptions")
    a.say(b_user, "after")
    b.say(a_user, "back")
    await until(lambda: b.bodies()[-1:] == ["after"] and a.bodies() == ["back"], "messages both ways")
    # The first may come again: its client has not been asked whether it has it.
    assert list(dict.fromkeys(b.bodies())) == ["before", "after"] and len({m["stanza_id"]["id"] for m in b.chats}) == 2
    for client in (a, b):
        assert client.times("session_start") == 1 and not client.times("sm_failed")


async def test_what_was_acknowledged_before_an_orderly_stop_is_not_repeated(own_server):
    server = own_server
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a, b = await raw.Session(server, a_user).log_in(), await raw.Session(server, b_user).log_in()

    async def hear(session, fact):
        while not fact():
            session.take(await session.stream.read())

    # It is available, and hears what comes as it comes.
    await hear(b, lambda: b.presences)
    for n in range(10):
        a.send(f"<message to='{b_user.jid}' type='chat' id='{n}'><body>hi</body></message>")
    await hear(b, lambda: len(b.messages) == 10)
    b.answer()
    b.send("<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>")
    await hear(b, lambda: "ping" in b.answers)
    server.stop()
    server.start()
    await b.log_in()
    await a.log_in()
    a.send(f"<message to='{b_user.jid}' type='chat' id='after'><body>hi</body></message>")
    await hear(b, lambda: "after" in [id for id, _, _ in b.messages])
    assert [id for id, _, _ in b.messages] == [str(n) for n in range(10)] + ["after"]
    a.stream.drop()
    b.stream.drop()


async def test_a_session_that_is_kicked_ends_and_no_other(server, connect):
    user = server.add_user()
    one = await connect(server, user, "one").online()
    two = await connect(server, user, "two").online()
    listed = lambda: [row["jid"] for row in server.json("session", "list") if row["jid"].startswith(f"{user}/")]
    assert listed() == [f"{user}/one", f"{user}/two"]
    server.command("session", "kick", f"{user}/one")
    await until(lambda: one.times("stream_error") and one.times("disconnected"), "the end of the stream")
    assert listed() == [f"{user}/two"]
    await until(lambda: two.seen(f"{user}/one", "unavailable"), "that the other sees it go")
    assert await two["xep_0199"].ping("localhost") < 10
    assert f"there is no session {user}/one" in refused(server, "session", "kick", f"{user}/one")
    # The address of the account names all its sessions.
    server.command("session", "kick", str(user))
    await until(lambda: two.times("stream_error") and two.times("disconnected"), "the end of the other stream")
    assert listed() == []
    assert f"{user}" in refused(server, "session", "kick", str(user))


async def test_a_host_comes_and_goes_while_others_are_served(configured, connect):
    server = configured
    staying = await connect(server, server.add_user("a"), "one").online()
    server.file.write_text('hosts = ["localhost", "second.localhost"]\n')
    assert "second.localhost" in server.command("config", "apply")
    assert hosts(server) == ["localhost", "second.localhost"]

    guest = server.add_user("b")
    guest.jid = f"{guest.name}@second.localhost"
    server.command("user", "add", guest.jid, stdin=guest.password + "\n")
    going = connect(server, guest, "one")
    going.ca_certs = str(server.data / "tls" / "second.localhost.crt")
    await going.online()
    going.say(staying.boundjid.bare, "from next door")
    await until(lambda: staying.bodies() == ["from next door"], "a message between hosts")

    # A file with a mistake in it changes nothing, though the rest of it would.
    server.file.write_text('hosts = ["localhost"]\n[limits]\nlogin_tries = "many"\n')
    told = refused(server, "config", "apply")
    assert "vorpal.toml:3:" in told and "login_tries" in told
    assert hosts(server) == ["localhost", "second.localhost"]
    assert await going["xep_0199"].ping("second.localhost") < 10

    server.file.write_text('hosts = ["localhost"]\n')
    server.command("config", "apply")
    await until(lambda: going.times("disconnected"), "the end of the sessions of a host that goes")
    assert hosts(server) == ["localhost"]
    assert await staying["xep_0199"].ping("localhost") < 10


async def test_a_hangup_reads_the_configuration_again(configured, connect):
    server = configured
    client = await connect(server, server.add_user(), "one").online()
    server.file.write_text('hosts = ["localhost", "second.localhost"]\n')
    server.process.send_signal(signal.SIGHUP)
    await until(lambda: hosts(server) == ["localhost", "second.localhost"], "the new host")
    server.file.write_text("hosts = [")
    server.process.send_signal(signal.SIGHUP)
    await until(lambda: [line for line in server.complaints() if "nothing was reloaded" in line], "a complaint")
    assert hosts(server) == ["localhost", "second.localhost"]
    assert await client["xep_0199"].ping("localhost") < 10


async def test_a_backup_made_as_the_handbook_says_brings_everything_back(own_server, connect, tmp_path):
    """docs/handbook/operating.md: stop, `cp -a`, start; to restore, stop, put the directory back, start."""
    server = own_server
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one", smacks=True).online()
    a.say(b_user, "waits in the backup", id="m1")
    await settled(a)
    a.send_presence_subscription(str(b_user))
    await until(lambda: any(str(b_user) in str(push) for push in a.pushes), "the roster push")

    server.stop()
    backup = tmp_path / "backup"
    subprocess.run(["cp", "-a", server.data, backup], check=True)
    server.start()
    await until(lambda: a.times("session_resumed") == 1, "the resumption")
    later = server.add_user("later")
    a.say(b_user, "is not in the backup", id="m2")
    await settled(a)

    server.stop()
    shutil.rmtree(server.data)
    subprocess.run(["cp", "-a", backup, server.data], check=True)
    assert server.data.stat().st_mode & 0o777 == 0o700
    server.start()
    # The client was ahead of the backup: it resumes or logs in anew, and its server is the one of then.
    await until(a.is_live, "the client is back")
    assert [row["jid"] for row in server.json("user", "list")] == [str(a_user), str(b_user)]
    b = await connect(server, b_user, "one").online()
    a.say(b_user, "said after the restoration")
    await until(lambda: len(b.bodies()) == 2, "what waited, and what came then")
    assert b.bodies() == ["waits in the backup", "said after the restoration"]
    assert (await a.contacts())[str(b_user)]["ask"] == "subscribe"
    assert "there is no account" in refused(server, "user", "disable", str(later))


async def test_a_copy_made_by_sqlite_while_people_chat_has_all_that_was_acknowledged(own_server, connect, tmp_path):
    """docs/handbook/operating.md: `VACUUM INTO` while the server runs, and a restoration from it."""
    server = own_server
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one", smacks=True).online()
    for n in range(50):
        a.say(b_user, f"before {n}", id=f"before{n}")
    await settled(a)

    page = (ROOT / "docs" / "handbook" / "operating.md").read_text()
    [sql] = re.findall(r'sqlite3 /var/lib/vorpal/vorpal\.db "(VACUUM INTO .*)"', page)
    backup = tmp_path / "backup"
    backup.mkdir(mode=0o700)
    command = ["sqlite3", server.data / "vorpal.db", sql.replace("$to", str(backup))]
    copying = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    during = 0
    while copying.returncode is None or during < 50:
        a.say(b_user, f"during {during}", id=f"during{during}")
        during += 1
        await settled(a)
    assert copying.returncode == 0, await copying.stderr.read()
    assert [file.name for file in backup.iterdir()] == ["vorpal.db"]
    assert 'cp -a /var/lib/vorpal/tls "$to"' in page
    shutil.copytree(server.data / "tls", backup / "tls")

    server.stop()
    shutil.rmtree(server.data)
    shutil.move(backup, server.data)
    server.start()
    assert [row["jid"] for row in server.json("user", "list")] == [str(a_user), str(b_user)]
    b = await connect(server, b_user, "one").online()
    await until(lambda: len(b.bodies()) >= 50, "what was acknowledged before the copy began")
    bodies = b.bodies()
    assert bodies[:50] == [f"before {n}" for n in range(50)]
    # Of what came while it was made there is a beginning.
    assert bodies[50:] == [f"during {n}" for n in range(len(bodies) - 50)] and len(bodies) < 50 + during
    await until(a.is_live, "the client is back")
    a.say(b_user, "said after the restoration")
    await until(lambda: b.bodies()[-1] == "said after the restoration", "what came then")
