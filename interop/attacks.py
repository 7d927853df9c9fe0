"""Attacks on the server, run in a separate process: `attacks.py NAME PORT CERTIFICATE SECONDS USER PASSWORD …`.

An attack prints "begun" when all its clients that need to are logged in, continues for SECONDS from then, and ends; then it
prints one line of JSON: how many bytes it sent, and over how many connections. It reads nothing except what it needs to reach the
start of the attack.
"""

import base64
import json
import socket
import ssl
import sys
import threading
import time

NS = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
HEADER = f"<stream:stream {NS} to='localhost' version='1.0'>"
SASL = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
# As much as the system takes in one call at most.
PIECE = 64 * 1024


class Attacker:
    """One connection."""

    def __init__(self, attack, header=HEADER):
        self.attack = attack
        attack.connections += 1
        plain = socket.create_connection(("127.0.0.1", attack.port), timeout=20)
        # Little of what is not read shall be in the buffers of the system.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket = attack.tls.wrap_socket(plain, server_hostname="localhost")
        self.say(header)

    def say(self, text):
        data = text.encode() if isinstance(text, str) else text
        self.socket.sendall(data)
        self.attack.sent += len(data)

    def hear(self, *wanted):
        heard = b""
        while not any(word in heard for word in wanted):
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed")
            heard += data
        return heard

    def log_in(self, name, password, resource, header=HEADER):
        self.hear(b"</stream:features>")
        secret = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
        self.say(f"<auth {SASL} mechanism='PLAIN'>{secret}</auth>")
        self.hear(b"<success")
        self.say(header)
        self.hear(b"</stream:features>")
        self.say("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>"
                 f"{resource}</resource></bind></iq>")
        self.hear(b"</iq>")
        return self

    def enable(self):
        """Enables stream management, so that the session stays when its connection is gone."""
        self.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        self.hear(b"<enabled")

    def drink(self):
        """Reads everything, in the background."""
        def work():
            try:
                while self.socket.recv(65536):
                    pass
            except (OSError, ValueError):
                pass
        self.socket.settimeout(None)
        threading.Thread(target=work, daemon=True).start()

    def flood(self, text):
        """Sends it repeatedly and reads nothing, until the attack ends or the server has closed the connection."""
        data = text.encode()
        data *= max(1, PIECE // len(data))
        self.socket.settimeout(0.25)
        while time.monotonic() < self.attack.until:
            # What is left of a piece is not what the next begins with: the same bytes go on until all are taken.
            rest = memoryview(data)
            while rest and time.monotonic() < self.attack.until:
                try:
                    rest = rest[self.socket.send(rest):]
                except (TimeoutError, ssl.SSLWantWriteError):
                    continue
            self.attack.sent += len(data) - len(rest)


class Attack:
    def __init__(self, name, port, certificate, seconds, users):
        self.port, self.users = port, users
        self.tls = ssl.create_default_context(cafile=certificate)
        self.seconds, self.lock, self.ready = seconds, threading.Lock(), set()
        # Until it has begun: no longer than that takes.
        self.until = time.monotonic() + 60
        self.sent = self.connections = self.wanted = 0
        self.run = getattr(self, name.replace("-", "_"))

    def begin(self, number):
        """One of the attacking clients is ready."""
        with self.lock:
            self.ready.add(number)
            if len(self.ready) == self.wanted:
                self.wanted = None
                self.until = time.monotonic() + self.seconds
                print("begun", flush=True)

    def parallel(self, count, work):
        """Runs many at once; a client whose connection is closed connects again."""
        self.wanted = count

        def again(number):
            while time.monotonic() < self.until:
                try:
                    work(number)
                except OSError:
                    time.sleep(0.05)
        threads = [threading.Thread(target=again, args=(number,), daemon=True) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def strangers(self):
        """Sends every element that is answered, or once was, before login, over many connections from one address."""
        floods = ["<s:r/>", "<s:enable/>", "<s:resume/>", f"<auth {SASL} mechanism='NONE'/>", f"<abort {SASL}/>", " \n",
                  "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"]
        header = HEADER.replace("<stream:stream ", "<stream:stream xmlns:s='urn:xmpp:sm:3' ")

        def work(number):
            self.begin(number)
            Attacker(self, header).flood(floods[number % len(floods)])
        self.parallel(60, work)

    def silent(self):
        """Opens as many connections as one address may have; each sends as much as an unauthenticated client may, and stops."""
        def work(number):
            self.begin(number)
            attackers = []
            try:
                for _ in range(20):
                    attackers.append(Attacker(self))
                    attackers[-1].say(f"<auth {SASL} mechanism='PLAIN'>" + "A" * 9_000)
                while time.monotonic() < self.until:
                    time.sleep(0.1)
            finally:
                for attacker in attackers:
                    attacker.socket.close()
        self.parallel(30, work)

    def namespaces(self):
        """Declares a namespace once and uses it in thousands of elements."""
        uri = "urn:" + "n" * 80_000
        bomb = (f"<message to='nobody@localhost/none' type='headline'><z xmlns:p='{uri}' xmlns='urn:z'>"
                + "<p:ab c=''/>" * 6_000 + "</z></message>")
        lesser = (f"<message to='nobody@localhost' type='chat'><z xmlns:p='urn:{'n' * 1_000}' xmlns='urn:z'>"
                  + "<p:ab/>" * 8_000 + "</z></message>")

        def work(number):
            (name, password) = self.users[number % len(self.users)]
            attacker = Attacker(self).log_in(name, password, f"bomb{number}")
            self.begin(number)
            attacker.flood(bomb if number % 2 else lesser)
        self.parallel(4, work)

    def language(self):
        """Opens a stream with a very long xml:lang, and sends many short messages to an offline user."""
        header = HEADER.replace("<stream:stream ", f"<stream:stream xml:lang='{'x' * 9_000}' ")
        name, password = self.users[0]
        receiver = self.users[-1][0]

        def work(number):
            attacker = Attacker(self).log_in(name, password, "lang", header)
            self.begin(number)
            attacker.flood(f"<message to='{receiver}@localhost' type='chat'><body>n</body></message>")
        self.parallel(1, work)

    def sessions(self):
        """All sessions of an account send requests and do not read the answers."""
        floods = ["<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "<r xmlns='urn:xmpp:sm:3'/>",
                  "<resume xmlns='urn:xmpp:sm:3'/>",
                  "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
                  "<iq type='get' id='1'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
                  "<iq type='set' id='1'><query xmlns='urn:xmpp:mam:2'/></iq>",
                  "<message to='nobody@localhost'/>", "<presence/>"]
        name, password = self.users[0]

        def work(number):
            attacker = Attacker(self).log_in(name, password, f"s{number}")
            self.begin(number)
            attacker.flood(floods[number % len(floods)])
        self.parallel(50, work)

    def presence(self):
        """Amplifies presence: all sessions of an account are available and read; some broadcast their presence again and
        again."""
        name, password = self.users[0]

        def work(number):
            attacker = Attacker(self).log_in(name, password, f"p{number}")
            attacker.say("<presence/>")
            attacker.drink()
            self.begin(number)
            if number < 8:
                attacker.flood("<presence/>")
            time.sleep(max(0, self.until - time.monotonic()))
        self.parallel(48, work)

    def absent(self):
        """The same to sessions without a connection, with as much deferred behind their logs as they accept."""
        name, password = self.users[0]
        for number in range(44):
            attacker = Attacker(self).log_in(name, password, f"a{number}")
            attacker.enable()
            attacker.say("<presence/>")
            attacker.hear(b"<presence")
            attacker.socket.close()
        talker = Attacker(self).log_in(name, password, "talker")
        talker.drink()
        talker.say(f"<message type='headline' to='{name}@localhost'/>" * 4_000)

        def work(number):
            attacker = Attacker(self).log_in(name, password, f"p{number}")
            attacker.drink()
            self.begin(number)
            attacker.flood("<presence/>")
        self.parallel(4, work)

    def requests(self):
        """Subscription requests to a user with a long roster, cancelled at once."""
        self.fill_roster("n" * 120, "")
        name = self.users[0][0]
        toggle = "".join(f"<presence to='{name}@localhost' type='{kind}'/>" for kind in ("subscribe", "unsubscribe"))

        def work(number):
            attacker = Attacker(self).log_in(*self.users[1 + number % (len(self.users) - 1)], f"r{number}")
            attacker.drink()
            self.begin(number)
            attacker.flood(toggle)
        self.parallel(6, work)

    def leaving(self):
        """Sessions that hold the same messages, which are not in the log, all lose their connections at once."""
        name, password = self.users[0]
        attackers = [Attacker(self).log_in(name, password, f"l{number}") for number in range(48)]
        for attacker in attackers:
            attacker.enable()
            attacker.say("<presence/>")
            attacker.hear(b"<presence")
        talker = Attacker(self).log_in(*self.users[-1], "talker")
        talker.drink()
        talker.say(f"<message to='{name}@localhost' type='chat'><x xmlns='a'/></message>" * 3_000)
        time.sleep(2)

        def work(number):
            self.begin(number)
            for attacker in attackers:
                attacker.socket.close()
            time.sleep(max(0, self.until - time.monotonic()))
        self.parallel(1, work)

    def rosters(self):
        """Sessions that do not read request a roster of maximum size."""
        self.ask_for_rosters(20, reads=False)

    def readers(self):
        """The same with sessions that read as fast as they can."""
        self.ask_for_rosters(24, reads=True)

    def ask_for_rosters(self, count, reads):
        self.fill_roster("n" * 900, "".join(f"<group>{letter * 200}</group>" for letter in "abcdefgh"))
        name, password = self.users[0]

        def work(number):
            attacker = Attacker(self).log_in(name, password, f"s{number}")
            if reads:
                attacker.drink()
            self.begin(number)
            attacker.flood("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
        self.parallel(count, work)

    def fill_roster(self, label, groups):
        name, password = self.users[0]
        filler = Attacker(self).log_in(name, password, "filler")
        try:
            for number in range(5_000):
                filler.say(f"<iq type='set' id='{number}'><query xmlns='jabber:iq:roster'>"
                           f"<item jid='c{number}@localhost' name='{label}'>{groups}</item></query></iq>")
                filler.hear(f"id='{number}'".encode())
                if time.monotonic() > self.until - 40:
                    break
        except OSError:
            pass


def main():
    name, port, certificate, seconds, *users = sys.argv[1:]
    attack = Attack(name, int(port), certificate, float(seconds), list(zip(users[::2], users[1::2])))
    attack.run()
    print(json.dumps({"sent": attack.sent, "connections": attack.connections}))


if __name__ == "__main__":
    main()
