"""A slixmpp client that records what it receives."""

import asyncio
import contextlib
import time

import slixmpp
from slixmpp.xmlstream.xmlstream import NotConnectedError

PLUGINS = ("xep_0012", "xep_0030", "xep_0085", "xep_0092", "xep_0191", "xep_0199", "xep_0202", "xep_0203", "xep_0280",
           "xep_0297")


async def until(fact, what, timeout=15):
    """Waits for a condition. The tests do not wait in any other way."""
    deadline = time.monotonic() + timeout
    while not (result := fact()):
        assert time.monotonic() < deadline, f"not seen within {timeout} s: {what}"
        await asyncio.sleep(0.01)
    return result


class Client(slixmpp.ClientXMPP):
    def __init__(self, server, user, resource, *, smacks=False, mechanism=None, password=None, direct_tls=False):
        mechanisms = {"feature_mechanisms": {"use_mech": mechanism}} if mechanism else {}
        super().__init__(f"{user}/{resource}", password or user.password, plugin_config=mechanisms)
        self.vorpal = server
        self.ca_certs = str(server.certificate)
        self.enable_direct_tls = direct_tls
        self.enable_starttls = not direct_tls
        self.use_aiodns = False
        self.auto_authorize = None
        self.auto_subscribe = False
        self.events, self.chats, self.errors, self.presences, self.pushes, self.copies = [], [], [], [], [], []
        self.acked, self.leaving = [], False
        for plugin in PLUGINS:
            self.register_plugin(plugin)
        if smacks:
            self.register_plugin("xep_0198", {"window": 1})
            self.add_event_handler("stanza_acked", lambda s: self.acked.append(s["id"]))
        for event in ("session_start", "session_resumed", "session_end", "sm_enabled", "sm_failed", "failed_all_auth",
                      "tls_success", "disconnected", "stream_error", "blocked", "unblocked"):
            self.add_event_handler(event, lambda _, event=event: self.events.append(event))
        self.add_event_handler("message", self.chats.append)
        self.add_event_handler("message_error", self.errors.append)
        self.add_event_handler("presence", self.presences.append)
        self.add_event_handler("roster_update", self.pushes.append)
        self.add_event_handler("carbon_received", lambda m: self.copies.append(("received", m["carbon_received"])))
        self.add_event_handler("carbon_sent", lambda m: self.copies.append(("sent", m["carbon_sent"])))
        self.add_event_handler("disconnected", self.come_back)
        self.go()

    def send_raw(self, data):
        """slixmpp's send loop would end with this error and send nothing more; XEP-0198 repeats what is lost."""
        with contextlib.suppress(*([NotConnectedError] if "xep_0198" in self.plugin else [])):
            super().send_raw(data)

    def go(self):
        self.connect("127.0.0.1", self.vorpal.direct_tls if self.enable_direct_tls else self.vorpal.starttls)

    async def come_back(self, _):
        """Reconnects, as every real client does; slixmpp leaves that to its user."""
        if "xep_0198" in self.plugin and not self.leaving:
            await asyncio.sleep(0.05)
            self.go()

    def times(self, event):
        return self.events.count(event)

    def is_live(self):
        """Whether there is a session with a connection."""
        marks = [e for e in self.events if e in ("session_start", "session_resumed", "disconnected")]
        return marks[-1:] not in ([], ["disconnected"])

    async def contacts(self):
        """The whole roster, by address. slixmpp itself would request only the changes."""
        iq = self.make_iq_get("jabber:iq:roster")
        return {str(jid): item for jid, item in (await iq.send())["roster"]["items"].items()}

    def bodies(self):
        return [m["body"] for m in self.chats if m["body"]]

    def seen(self, jid, kind=None):
        """Presence received from an address, of one type or any."""
        return [p for p in self.presences if jid in (p["from"].bare, p["from"].full) and kind in (None, p["type"])]

    async def started(self):
        await until(lambda: self.times("session_start"), f"{self.boundjid} logged in")
        return self

    async def online(self):
        """Logged in, with the roster, and available: it has received its own presence."""
        await self.started()
        await self.get_roster()
        self.send_presence()
        await until(lambda: self.seen(self.boundjid.full), f"{self.boundjid} available")
        return self

    def say(self, to, body, id=None):
        message = self.make_message(str(to), body, mtype="chat")
        message["id"] = id or self.new_id()
        message.send()
        return message["id"]

    async def leave(self):
        self.leaving = True
        if self.is_connected():
            await self.disconnect(wait=5)
        else:
            self.cancel_connection_attempt()
