"""Commands that show accounts and sessions, and an import from Prosody as the handbook describes it."""

import hashlib
import hmac
import re
import socket
import subprocess
import sys

import pytest

from client import until
from server import ROOT, Server, User


@pytest.fixture
def accounts_of_prosody(tmp_path):
    """A data directory as Prosody 0.12 writes it, with three accounts: with SHA-1 keys, with SHA-256 keys, and with a plain password."""
    folder = tmp_path / "prosody" / "localhost" / "accounts"
    folder.mkdir(parents=True)
    users = []
    for name, file, algorithm, salt in [
        ("juliet", "juliet", "sha1", "5c3f1d2e-7a0b-4d53-9c1e-0a6f3e9b8d21"),
        ("romeo.m_1", "romeo%2em%5f1", "sha256", "c1aa6f0b-3a44-4f7f-8f5a-90f6d7f9e4b2"),
    ]:
        password = f"the secret of {name}"
        salted = hashlib.pbkdf2_hmac(algorithm, password.encode(), salt.encode(), 10_000)
        key = lambda what: hmac.digest(salted, what, algorithm)
        stored = hashlib.new(algorithm, key(b"Client Key")).hexdigest()
        (folder / f"{file}.dat").write_text(
            'return {\n\t["created"] = 1700000000;\n\t["iteration_count"] = 10000;\n'
            f'\t["salt"] = "{salt}";\n\t["server_key"] = "{key(b"Server Key").hex()}";\n'
            f'\t["stored_key"] = "{stored}";\n\t["updated"] = 1700000000;\n}};\n')
        users.append(User(f"{name}@localhost", password))
    (folder / "plain.dat").write_text('return {\n\t["password"] = "secret";\n};\n')
    return folder.parent.parent, users


async def test_accounts_of_prosody_log_in_after_the_import_of_the_handbook(tmp_path, accounts_of_prosody, connect):
    folder, (juliet, romeo) = accounts_of_prosody
    handbook = (ROOT / "docs" / "handbook" / "users.md").read_text()
    script = re.search(r"```python\n(.*?)```", handbook, re.S).group(1)
    (tmp_path / "prosody-export.py").write_text(script)
    exported = subprocess.run([sys.executable, tmp_path / "prosody-export.py", folder], capture_output=True, text=True, check=True)
    assert exported.stderr.startswith("plain@localhost: no hashed password in "), exported.stderr
    server = Server(tmp_path / "data", VORPAL_LOGIN_MECHANISMS="SCRAM-SHA-256,SCRAM-SHA-1,PLAIN").start()
    try:
        said = server.command("user", "import", "-", stdin=exported.stdout)
        assert said.startswith("imported standard input: 2 created, 0 failed (by the server at ")
        for user, mechanism in [(juliet, "SCRAM-SHA-1"), (romeo, "SCRAM-SHA-256"), (juliet, "PLAIN"), (romeo, "PLAIN")]:
            await connect(server, user, mechanism, mechanism=mechanism).online()
        wrong = connect(server, juliet, "wrong", mechanism="SCRAM-SHA-1", password="another")
        await until(lambda: wrong.times("failed_all_auth"), "the refusal")
    finally:
        server.stop()


async def test_an_account_without_keys_for_the_mechanism_is_in_the_log_as_such_and_is_not_banned(tmp_path, accounts_of_prosody, connect):
    folder, (juliet, _) = accounts_of_prosody
    handbook = (ROOT / "docs" / "handbook" / "users.md").read_text()
    script = re.search(r"```python\n(.*?)```", handbook, re.S).group(1)
    # As the handbook has it: from standard input, which another user can read.
    exported = subprocess.run([sys.executable, "-", folder], input=script, capture_output=True, text=True, check=True)
    server = Server(tmp_path / "data", VORPAL_LOGIN_MECHANISMS="SCRAM-SHA-512,SCRAM-SHA-256,SCRAM-SHA-1").start()
    try:
        server.command("user", "import", "-", stdin=exported.stdout)
        for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256"):
            client = connect(server, juliet, mechanism, mechanism=mechanism)
            await until(lambda: client.times("failed_all_auth"), "the refusal")
        failed = [line for line in server.log.read_text().splitlines() if "login failed" in line]
        assert len(failed) == 2 and all(line.endswith('reason="the account has no keys for this mechanism"') for line in failed), failed
        done = subprocess.run(["fail2ban-regex", str(server.log), str(ROOT / "contrib/fail2ban/vorpal.conf")],
                              capture_output=True, text=True, timeout=60)
        assert re.search(r"Lines: \d+ lines, 2 ignored, 0 matched", done.stdout), done.stdout + done.stderr
    finally:
        server.stop()


async def test_a_list_of_sessions_says_where_they_come_from_and_how_they_are_protected(server, connect):
    user = server.add_user()
    one = await connect(server, user, "one", mechanism="SCRAM-SHA-256", smacks=True).online()
    await connect(server, user, "two", mechanism="PLAIN", direct_tls=True).started()
    one.send_raw("<presence><show>away</show><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://a.client' "
                 "ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>")

    def rows():
        return {row["jid"].rpartition("/")[2]: row for row in server.json("session", "list", str(user))}

    await until(lambda: rows()["one"]["client"] == "https://a.client", "the presence")
    first, second = rows()["one"], rows()["two"]
    assert (first["address"], first["mechanism"], first["show"]) == ("127.0.0.1", "SCRAM-SHA-256", "away")
    assert first["tls"] == "TLSv1.3" and first["cipher"] in ("AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305")
    assert (second["mechanism"], second["tls"], second["client"], second["show"]) == ("PLAIN", "TLSv1.3", None, "unavailable")
    assert first["since"] <= second["since"] and first["resumable"] and not second["resumable"]

    header, *lines = server.command("session", "list", str(user)).splitlines()
    assert header.split() == ["SESSION", "ADDRESS", "SINCE", "CLIENT", "TLS", "MECHANISM", "STATE"]
    cells = [line.split() for line in lines]
    assert [row[0] for row in cells] == [f"{user}/one", f"{user}/two"]
    assert [row[1] for row in cells] == ["127.0.0.1"] * 2 and [row[3] for row in cells] == ["https://a.client", "-"]
    assert cells[0][4] == f"TLSv1.3/{first['cipher']}" and [row[6] for row in cells] == ["away", "unavailable"]
    # Columns stay where they are.
    assert len({line.index("127.0.0.1") for line in lines}) == 1


async def test_an_account_is_shown_with_what_waits_for_it(server, connect):
    user, friend = server.add_user(), server.add_user()
    writer = await connect(server, friend, "one", smacks=True).online()
    for n in range(3):
        writer.say(user, f"number {n}")
    await until(lambda: server.json("user", "show", str(user))["waiting_messages"] == 3, "that they are stored")
    shown = server.json("user", "show", str(user))
    assert (shown["last_seen"], shown["sessions"]) == (None, [])
    assert shown["waiting_bytes"] > 100 and shown["archive_bytes"] > 100
    assert server.json("user", "show", str(friend))["waiting_messages"] == 0
    reader = await connect(server, user, "one", smacks=True).online()
    await until(lambda: len(reader.bodies()) == 3, "the messages")
    await until(lambda: server.json("user", "show", str(user))["waiting_messages"] == 0, "that they are taken")
    shown = server.json("user", "show", str(user))
    assert [session["jid"] for session in shown["sessions"]] == [f"{user}/one"]
    told = server.command("user", "show", str(user))
    assert "last seen     now\n" in told and f"one: available, since {shown['sessions'][0]['since'][:19]}Z from 127.0.0.1\n" in told
    await reader.leave()
    await until(lambda: server.json("user", "show", str(user))["last_seen"], "that it has gone")


async def test_all_sessions_of_an_account_or_one_are_ended_and_the_log_says_who_did_it(own_server, connect):
    server = own_server
    user = server.add_user()
    clients = {name: await connect(server, user, name).online() for name in ("one", "two", "three")}
    server.command("session", "kick", f"{user}/two")
    await until(lambda: clients["two"].times("disconnected"), "the end of one")
    said = server.json("session", "kick", str(user))
    assert said["done"] and said["notes"] == ["sessions ended: 2"]
    await until(lambda: all(client.times("disconnected") for client in clients.values()), "the end of all")
    lines = [line for line in server.log.read_text().splitlines() if "session kick" in line]
    assert len(lines) == 2 and all(re.search(r' uid=\d+ pid=\d+ outcome="done" user="\S+"$', line) for line in lines), lines


def test_a_connection_that_a_limit_turns_away_is_in_the_log(tmp_path):
    server = Server(tmp_path / "data", VORPAL_LIMITS_CONNECTION_RATE="1/h").start()
    try:
        first, second = (socket.create_connection(("127.0.0.1", server.starttls), timeout=10) for _ in range(2))
        assert second.recv(1) == b"", "it is closed"
        first.close()
        line = next(line for line in server.log.read_text().splitlines() if "connection refused" in line)
        assert re.search(r' INFO connection refused peer=127\.0\.0\.1 port=\d+ reason="the network opens connections too fast"$', line), line
    finally:
        server.stop()


async def test_at_debug_connections_have_plain_numbers_and_no_value_is_written_as_rust_does(tmp_path, connect):
    for form in ("text", "json"):
        server = Server(tmp_path / form, VORPAL_LOG_LEVEL="debug", VORPAL_LOG_FORMAT=form).start()
        try:
            user = server.add_user()
            client = await connect(server, user, "one").online()
            client.say("nobody@localhost", "to nobody")
            await until(lambda: client.errors, "the error")
            await client.leave()
        finally:
            server.stop()
        log = server.log.read_text()
        assert re.search(r"conn=\d+ " if form == "text" else r'"conn":\d+', log), log
        for debug in (r"\w+\(\d+\)", r"\bSome\(", r"=[A-Z]\w*$", r"\d\.\d+ms"):
            assert not re.search(debug, log, re.M), (debug, re.search(debug, log, re.M))
