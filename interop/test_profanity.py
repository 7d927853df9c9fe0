"""profanity 0.13.1 of Debian 12 (libstrophe, OpenSSL: TLS 1.3, SCRAM), driven in a terminal as a person would."""

import hashlib
import ssl

import pytest

from client import until
from terminal import Terminal


@pytest.fixture
def profanity(server, tmp_path):
    """profanity, about to log in as a separate user."""
    user = server.add_user("prof")
    config, data = tmp_path / "config" / "profanity", tmp_path / "data" / "profanity"
    for folder in (config, data):
        folder.mkdir(parents=True)
    (config / "profrc").write_text("[notifications]\nmessage=false\n[ui]\nsplash=false\n")
    (data / "accounts").write_text(
        f"[{user}]\nenabled=true\njid={user}\npassword={user.password}\nserver=127.0.0.1\nport={server.starttls}\n"
        "tls.policy=force\nresource=prof\npresence.login=online\n")
    terminal = Terminal(tmp_path, "profanity", "-a", user.jid, XDG_CONFIG_HOME=str(tmp_path / "config"),
                        XDG_DATA_HOME=str(tmp_path / "data"))
    terminal.user = user
    yield terminal
    terminal.close()


async def test_a_person_logs_in_and_chats(server, connect, profanity):
    friend_user = server.add_user("friend")
    friend = await connect(server, friend_user, "one").online()
    # It does not know the certificate, and shows whose it is.
    der = ssl.PEM_cert_to_DER_cert(server.certificate.read_text())
    await profanity.shows(hashlib.sha1(der).hexdigest())
    await profanity.shows("Use '/tls allow'")
    profanity.type("/tls allow")
    await profanity.shows("logged in successfully")

    profanity.type(f"/msg {friend_user} from a terminal")
    await until(friend.bodies, "the message")
    assert friend.bodies() == ["from a terminal"]
    assert friend.chats[0]["from"].full == f"{profanity.user}/prof"

    friend.say(profanity.user, "to a terminal")
    await profanity.shows("to a terminal")

    friend.send_presence_subscription(profanity.user.jid)
    profanity.type(f"/sub allow {friend_user}")
    await until(lambda: friend.seen(f"{profanity.user}/prof", "available"), "the presence")
    friend.presences.clear()
    profanity.type("/quit")
    await until(lambda: friend.seen(f"{profanity.user}/prof", "unavailable"), "the end of the session")
