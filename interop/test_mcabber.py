"""mcabber 1.1.2 of Debian 12 (loudmouth), driven in a terminal as a person would: vCards (XEP-0054), and notes in private storage
(XEP-0049, XEP-0145)."""

import pytest

from client import until
from terminal import Terminal


@pytest.fixture
def start(server, tmp_path):
    """Starts mcabber as this user."""
    open_ones = []

    async def start(user, resource):
        folder = tmp_path / resource
        folder.mkdir()
        settings = folder / "mcabberrc"
        settings.write_text("".join(f"set {line}\n" for line in (
            f"jid = {user}", f"password = {user.password}", "server = 127.0.0.1", f"port = {server.starttls}", "tls = 1",
            "ssl_ignore_checks = 1", f"resource = {resource}", "beep_on_message = 0")))
        settings.chmod(0o600)
        terminal = Terminal(folder, "mcabber", "-f", str(settings))
        open_ones.append(terminal)
        return terminal

    yield start
    for terminal in open_ones:
        terminal.close()


async def test_a_person_reads_a_vcard_and_keeps_a_note(server, connect, start):
    user, friend_user = server.add_user("mcab"), server.add_user("friend")
    friend = connect(server, friend_user, "one")
    friend.register_plugin("xep_0054")
    friend = await friend.online()
    card = friend["xep_0054"].make_vcard()
    card["FN"] = "Mercutio of Verona"
    await friend["xep_0054"].publish_vcard(vcard=card)

    first = await start(user, "first")
    await first.shows("Your status has been set")
    first.type(f"/add {friend_user}")
    await until(lambda: friend.seen(user.jid, "subscribe"), "the request")
    first.type(f"/request vcard {friend_user}")
    await first.shows(f"Received IQ:vCard result from <{friend_user}>")
    first.type("/roster search friend")
    await first.shows(f"Buddy: {friend_user}")
    first.type("")  # opens its window
    await first.shows("Mercutio of Verona")

    first.type("/roster note owes me a sword")
    watch = await connect(server, user, "watch").online()
    first.type("/quit")
    await until(lambda: watch.seen(user.jid, "unavailable"), "the end of the first session")
    second = await start(user, "second")
    await second.shows("Your status has been set")
    second.type("")  # opens the window of the status
    second.type("/roster note")
    await second.shows("owes me a sword")
