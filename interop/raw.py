"""Raw XMPP: streams and sessions that are fast, and that do what no client library would do.

A session does the accounting of XEP-0198 itself: what it sent that is not acknowledged, and what it received. It can stop
reading, drop its connection or abandon it, and resume over another one.
"""

import asyncio
import base64
import collections
import logging
import ssl
import time
from xml.etree.ElementTree import XMLPullParser

logging.getLogger("asyncio").setLevel(logging.ERROR)

HEADER = ("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' "
          "version='1.0'>")
FEATURES = "{http://etherx.jabber.org/streams}features"
SM = "{urn:xmpp:sm:3}"
CLIENT = "{jabber:client}"
MAM = "{urn:xmpp:mam:2}"
RSM = "{http://jabber.org/protocol/rsm}"
STANZAS = {CLIENT + "message", CLIENT + "presence", CLIENT + "iq"}
# Nothing takes longer than this, unless it hangs.
PATIENCE = 30


class Wrong(Exception):
    """The server violated a rule."""


async def until(fact, what, tasks=(), patience=PATIENCE):
    """Waits for a condition, as long as none of the tasks that should bring it about has failed."""
    deadline = time.monotonic() + patience
    while not fact():
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception():
                raise task.exception()
        if time.monotonic() > deadline:
            raise Wrong(f"not within {patience} s: {what}")
        await asyncio.sleep(0.01)


class Stream:
    """One connection: its elements in, text out."""

    @classmethod
    async def open(cls, server, port=None):
        context = ssl.create_default_context(cafile=server.certificate)
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port or server.direct_tls, ssl=context,
                                                                 server_hostname="localhost")
        self.begin()
        return self

    def begin(self):
        self.parser, self.depth, self.elements, self.root = XMLPullParser(("start", "end")), 0, collections.deque(), None
        self.ended = False
        self.write(HEADER)

    def write(self, text):
        if self.writer.is_closing():
            raise ConnectionError("closed")
        self.writer.write(text.encode())

    def next(self):
        """An element that was already received, or nothing."""
        for event, element in self.parser.read_events():
            if event == "start":
                self.depth += 1
                self.root = element if self.depth == 1 else self.root
            else:
                self.depth -= 1
                self.ended |= self.depth == 0
                if self.depth == 1:
                    self.elements.append(element)
                    self.root.clear()
        if self.ended and not self.elements:
            raise ConnectionError("the stream was closed")
        return self.elements.popleft() if self.elements else None

    async def read(self):
        while (element := self.next()) is None:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError("end of file")
            self.parser.feed(data)
        if element.tag.endswith("}error") and "streams" in element.tag:
            raise Wrong(f"a stream error: {[child.tag for child in element]}")
        return element

    async def want(self, *tags):
        element = await self.read()
        if element.tag not in tags:
            raise Wrong(f"{element.tag} instead of {tags}")
        return element

    async def authenticate(self, user):
        """With PLAIN, once the features are read."""
        secret = base64.b64encode(f"\0{user.name}\0{user.password}".encode()).decode()
        self.write(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>")
        await self.want("{urn:ietf:params:xml:ns:xmpp-sasl}success")
        self.begin()
        await self.want(FEATURES)

    def drop(self):
        self.writer.transport.abort()


class Session:
    """A user's session, over successive connections. Subclasses define how a message is handled."""

    def __init__(self, server, user, resource="raw", *, managed=True):
        self.server, self.user, self.resource, self.managed = server, user, resource, managed
        self.stream, self.token, self.handled, self.base = None, None, 0, 0
        # What was sent and not acknowledged: what it is to whoever sent it, and the text.
        self.unacked = collections.deque()
        # What was acknowledged, the answers to IQs, messages that came: (id, stanza id, body), and errors: (id, condition).
        self.acked, self.answers, self.messages, self.errors, self.presences = [], {}, [], [], []
        # Pages of the archive that are being read: their results.
        self.archived = []
        self.resumed = 0

    async def log_in(self, port=None):
        """Logs in, and resumes the old session if there is one. An old connection is abandoned, not closed."""
        stream = await Stream.open(self.server, port)
        try:
            await stream.want(FEATURES)
            await stream.authenticate(self.user)
            if self.token:
                stream.write(f"<resume xmlns='urn:xmpp:sm:3' previd='{self.token}' h='{self.handled}'/>")
                resumed = await stream.want(SM + "resumed")
                self.resumed += 1
                self.begun(stream)
                self.take_ack(int(resumed.get("h")))
                for what, text in self.unacked:
                    self.repeated(what)
                    stream.write(text)
                stream.write("<r xmlns='urn:xmpp:sm:3'/>")
            else:
                stream.write(f"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>"
                             f"{self.resource}</resource></bind></iq>")
                await stream.want(CLIENT + "iq")
                if self.managed:
                    stream.write("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
                    self.token = (await stream.want(SM + "enabled")).get("id")
                self.begun(stream)
                self.send("<presence/>")
        except BaseException:
            stream.drop()
            raise
        return self

    def begun(self, stream):
        self.stream = stream

    async def listen(self):
        """Reads until the connection ends."""
        while True:
            self.take(await self.stream.read())

    def send(self, text, what=None):
        self.unacked.append((what, text))
        self.stream.write(text)

    def ask(self):
        self.stream.write("<r xmlns='urn:xmpp:sm:3'/>")

    def answer(self):
        self.stream.write(f"<a xmlns='urn:xmpp:sm:3' h='{self.handled}'/>")

    def take_ack(self, h):
        if not self.base <= h <= self.base + len(self.unacked):
            raise Wrong(f"{self.user}: h={h}, after {self.base} acknowledged and {len(self.unacked)} more sent")
        while self.base < h:
            self.base += 1
            what, _ = self.unacked.popleft()
            if what is not None:
                self.acknowledged(what)

    def acknowledged(self, what):
        self.acked.append(what)

    def repeated(self, what):
        pass

    def take(self, element):
        if element.tag in STANZAS:
            self.handled += 1
        if element.tag == CLIENT + "message":
            result = element.find(MAM + "result")
            if result is not None:
                inner = result.find("{urn:xmpp:forward:0}forwarded/" + CLIENT + "message")
                self.archived.append((result.get("id"), inner.get("id")))
            elif element.get("type") == "error":
                self.failed(element.get("id"), [child.tag.partition("}")[2] for child in element.find(CLIENT + "error")])
            else:
                self.came(element)
        elif element.tag == CLIENT + "presence":
            self.presences.append((element.get("from"), element.get("type")))
        elif element.tag == CLIENT + "iq" and element.get("type") in ("result", "error"):
            self.answers[element.get("id")] = element
        elif element.tag == SM + "r":
            self.asked()
        elif element.tag == SM + "a":
            self.take_ack(int(element.get("h")))
        if element.tag in STANZAS and self.handled % 50 == 49 and self.managed:
            self.answer()

    def came(self, message):
        self.messages.append((message.get("id"), stanza_id(message, self.user.jid), message.findtext(CLIENT + "body")))

    def failed(self, id, conditions):
        self.errors.append((id, conditions))

    def asked(self):
        self.answer()

    async def archive(self):
        """The user's whole archive, page by page, as pairs of the archive's id and the message's. `listen` must be running."""
        self.archived, last, page = [], "", 0
        while True:
            id = f"archive-{len(self.answers)}"
            after = f"<after>{last}</after>" if last else ""
            self.send(f"<iq type='set' id='{id}'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>"
                      f"<max>250</max>{after}</set></query></iq>")
            await until(lambda: id in self.answers, f"page {page} of the archive of {self.user}")
            fin = self.answers[id].find(MAM + "fin")
            if fin is None:
                raise Wrong(f"no page of the archive of {self.user}")
            page += 1
            if fin.get("complete") == "true":
                return self.archived
            last = fin.findtext(f"{RSM}set/{RSM}last")


def stanza_id(message, by):
    """The id that an archive gave a message (XEP-0359)."""
    for id in message.findall("{urn:xmpp:sid:0}stanza-id"):
        if id.get("by") == by:
            return id.get("id")
    return None


class Path:
    """A path to the server that can go dead: nothing passes any more, and neither end is notified.

    Data in transit is lost, as in a network failure; neither end sees its connection closed.
    """

    @classmethod
    async def open(cls, port, used=lambda: None):
        """`used` is called for each new connection through the path."""
        self = cls()
        self.to, self.used, self.pipes, self.writers = port, used, [], []
        self.listener = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def connect(self, reader, writer):
        self.used()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.close()
            return
        self.writers += [writer, back]
        self.pipes += [asyncio.create_task(self.pass_on(reader, back)), asyncio.create_task(self.pass_on(there, writer))]

    async def pass_on(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # whoever closed it, the other side is told
        writer.close()

    def die(self):
        """Makes the path dead from now on. The sockets stay open until `close`."""
        for pipe in self.pipes:
            pipe.cancel()

    def close(self):
        self.die()
        self.listener.close()
        for writer in self.writers:
            writer.transport.abort()
