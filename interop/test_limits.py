"""Limits for unauthenticated clients: they cannot use up all descriptors, evade the counters, or lock others out."""

import asyncio
import base64
import collections
import contextlib
import ipaddress
import json
import os
import re
import resource
import socket
import ssl
import subprocess
import time

import pytest

import raw
from client import until
from server import BINARY, ROOT, Server, free_port
from test_monitoring import get, metrics

# Floods take descriptors here as well.
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))


class FewFiles(Server):
    """A server with a hard limit of 300 descriptors, and a lower soft limit."""

    def spawn(self, log):
        return subprocess.Popen([BINARY, "serve"], env=self.env, cwd=self.data.parent, stderr=log, stdin=subprocess.DEVNULL,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300)))


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def sockets(server):
    """Descriptors of TCP connections: those of clients, as the system sees them."""
    with open(f"/proc/{server.process.pid}/net/tcp") as file:
        ports = {f":{port:04X}" for port in (server.starttls, server.direct_tls)}
        established = [line.split() for line in file.readlines()[1:]]
    inodes = {row[9] for row in established if row[1][8:] in ports and row[3] != "0A"}
    links = []
    for fd in os.listdir(f"/proc/{server.process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/{server.process.pid}/fd/{fd}"))
    return sum(link.removeprefix("socket:[").removesuffix("]") in inodes for link in links)


def flood(port, count):
    """Silent connections. Refused ones are left out."""
    made = []
    for _ in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", port))
        made.append(connection)
    return made


async def test_orders_are_taken_while_clients_have_all_descriptors_and_afterwards(tmp_path):
    server = FewFiles(tmp_path / "data").start()
    try:
        assert re.search(r"WARN fewer connections than limits.connections_total.* wanted=50000", server.log.read_text())
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert limits == (300, 300), "the soft limit was raised"
        idle = flood(server.starttls, 330)
        await until(lambda: descriptors(server) > 200, "the connections")
        for _ in range(20):
            assert server.json("status")["hosts"] == ["localhost"]
        for connection in idle:
            connection.close()
        await until(lambda: sockets(server) == 0, "the end of the connections")
        assert server.json("status")["hosts"] == ["localhost"]
        server.add_user()
        lines = [line for line in server.log.read_text().splitlines() if "cannot be accepted" in line]
        assert len(lines) <= 2, lines
    finally:
        server.stop()
    assert server.complaints() == []


async def test_an_order_gets_the_descriptor_that_is_kept_for_it(own_server):
    server = own_server
    taken = {int(fd) for fd in os.listdir(f"/proc/{server.process.pid}/fd")}
    free = next(fd for fd in range(10_000) if fd not in taken)
    before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    # From here on there is no descriptor for anything new.
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (free, before[1]))
    waiting = flood(server.starttls, 5)
    for _ in range(10):
        assert server.json("status")["hosts"] == ["localhost"]
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
    assert server.json("status")["hosts"] == ["localhost"]
    await until(lambda: sockets(server) == 5, "that the clients are accepted at last")
    for connection in waiting:
        connection.close()


async def test_what_is_dropped_for_a_connection_of_another_listener_is_closed(tmp_path):
    port = free_port()
    server = Server(tmp_path / "data", VORPAL_LISTEN_METRICS=f"127.0.0.1:{port}", VORPAL_LIMITS_CONNECTION_RATE="30/s")
    server.monitoring = port
    server.start()
    try:
        # As many as one address may have half open come to one listener; those of the other push them out.
        idle = flood(server.starttls, 30)
        await until(lambda: sockets(server) == 30, "the first")

        def pushed_out():
            idle.extend(flood(server.direct_tls, 1))
            return metrics(server)["vorpal_connections_refused_total:made-room"] >= 25

        await until(pushed_out, "that the first are pushed out")
        await until(lambda: sockets(server) == metrics(server)["vorpal_connections_logging_in"] == 30, "that they are closed")
        for connection in idle:
            connection.close()
    finally:
        server.stop()


async def guess(server, name, password, address="127.0.0.1", port=None, tls_port=None):
    """A login with PLAIN: the failure condition, or "success"; None if the connection was closed."""
    context = None if port else ssl.create_default_context(cafile=server.certificate)
    stream = raw.Stream()
    stream.reader, stream.writer = await asyncio.open_connection("127.0.0.1", port or tls_port or server.direct_tls, ssl=context,
                                                                 server_hostname="localhost" if context else None,
                                                                 local_addr=(address, 0))
    try:
        stream.begin()
        await stream.want(raw.FEATURES)
        secret = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
        stream.write(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>")
        answer = await stream.read()
        return "success" if answer.tag.endswith("}success") else answer[0].tag.partition("}")[2]
    finally:
        stream.drop()


async def give_up(server, name, address):
    """A login that is not a guess: an unknown mechanism, then one that is aborted before the proof."""
    sasl = "urn:ietf:params:xml:ns:xmpp-sasl"
    stream = raw.Stream()
    context = ssl.create_default_context(cafile=server.certificate)
    stream.reader, stream.writer = await asyncio.open_connection("127.0.0.1", server.direct_tls, ssl=context,
                                                                 server_hostname="localhost", local_addr=(address, 0))
    try:
        stream.begin()
        await stream.want(raw.FEATURES)
        first = base64.b64encode(f"n,,n={name},r=nonce".encode()).decode()
        for words in [f"<auth xmlns='{sasl}' mechanism='X-OTHER'/>", f"<auth xmlns='{sasl}' mechanism='SCRAM-SHA-1'>{first}</auth>",
                      f"<abort xmlns='{sasl}'/>"]:
            stream.write(words)
            await stream.read()
    finally:
        stream.drop()


async def test_the_same_wrong_password_counts_once_and_others_lock_the_account_for_the_address(own_server):
    server = own_server
    user, other = server.add_user(), server.add_user()
    for n in range(30):
        assert await guess(server, user.name, "last year's", "127.0.0.5") == "not-authorized"
    assert await guess(server, user.name, user.password, "127.0.0.5") == "success"
    for n in range(30):
        assert await guess(server, "nobody", "last year's", "127.0.0.5") == "not-authorized"
    # A password that was wrong is right from when it is the account's.
    server.command("user", "passwd", str(user), stdin="last year's\n")
    assert await guess(server, user.name, "last year's", "127.0.0.5") == "success"
    assert await guess(server, user.name, user.password, "127.0.0.5") == "not-authorized"
    # An account that is disabled is no guess either, for who has its password.
    server.command("user", "disable", str(user))
    for n in range(30):
        assert await guess(server, user.name, "last year's", "127.0.0.5") == "account-disabled"
    server.command("user", "enable", str(user))
    assert await guess(server, user.name, "last year's", "127.0.0.5") == "success"
    outcomes = [await guess(server, other.name, f"wrong {n}", "127.0.0.5") for n in range(15)]
    assert outcomes == ["not-authorized"] * 10 + ["temporary-auth-failure"] * 5
    assert await guess(server, other.name, other.password, "127.0.0.5") == "temporary-auth-failure"
    assert await guess(server, user.name, "last year's", "127.0.0.5") == "success"


async def test_failures_at_one_account_have_a_limit_that_is_configured(tmp_path):
    server = Server(tmp_path / "data", VORPAL_LIMITS_LOGIN_FAILURES_ACCOUNT="2/h").start()
    try:
        outcomes = [await guess(server, "nobody", f"wrong {n}") for n in range(5)]
        assert outcomes == ["not-authorized"] * 4 + ["temporary-auth-failure"]
    finally:
        server.stop()


async def test_a_client_that_says_it_saw_no_plus_is_refused_and_may_go_on(own_server):
    """As slixmpp 1.8: the GS2 flag `y` with each mechanism, then PLAIN (RFC 5802 §6)."""
    server, sasl = own_server, "urn:ietf:params:xml:ns:xmpp-sasl"
    user = server.add_user()
    first = base64.b64encode(f"y,,n={user.name},r=nonce".encode()).decode()
    for _ in range(5):
        stream = await raw.Stream.open(server)
        mechanisms = [element.text for element in (await stream.want(raw.FEATURES)).iter(f"{{{sasl}}}mechanism")]
        # The server has `tls-exporter`, so there is no reason for the `y`.
        assert "SCRAM-SHA-1-PLUS" in mechanisms
        for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"] * 4:
            stream.write(f"<auth xmlns='{sasl}' mechanism='{mechanism}'>{first}</auth>")
            assert (await stream.read())[0].tag == f"{{{sasl}}}not-authorized"
        secret = base64.b64encode(f"\0{user.name}\0{user.password}".encode()).decode()
        stream.write(f"<auth xmlns='{sasl}' mechanism='PLAIN'>{secret}</auth>")
        await stream.want(f"{{{sasl}}}success")
        stream.drop()
    assert lines(server, "login failed") == []


async def test_tls_that_comes_to_the_port_for_starttls_is_served(own_server):
    server = own_server
    user = server.add_user()
    session = raw.Session(server, user, managed=False)
    await session.log_in(server.starttls)
    assert len(lines(server, "logged in")) == 1
    # It is limited as any other connection there.
    for n in range(10):
        assert await guess(server, user.name, f"wrong {n}", tls_port=server.starttls) == "not-authorized"
    assert await guess(server, user.name, user.password, tls_port=server.starttls) == "temporary-auth-failure"
    assert await guess(server, user.name, user.password) == "temporary-auth-failure"
    session.stream.drop()


async def test_tls_that_comes_to_a_listener_behind_a_proxy_is_refused_with_a_line_in_the_log(proxied):
    hello = bytes([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])
    assert await told(proxied, hello) == b""
    assert len(lines(proxied, "TLS came to c2s_plain")) == 1
    # Anybody can do that, as often as they like: there are ten lines, and then their number.
    for _ in range(40):
        assert await told(proxied, hello) == b""
    assert len(lines(proxied, "TLS came to c2s_plain")) in range(10, 13)


@pytest.mark.parametrize("more", [0, 1_000_000], ids=["at once", "while it sends on"])
async def test_who_sends_too_large_a_stanza_is_told_the_limit_and_not_cut_off(own_server, more):
    user = own_server.add_user()
    session = raw.Session(own_server, user, managed=False)
    await session.log_in()
    stream = session.stream
    stream.write("<message to='nobody@localhost'><body>" + "x" * (256 * 1024 + more))
    # As a client that says all it has to say before it listens.
    await stream.writer.drain()
    # To its end, and not to a reset, which some systems let overtake what came before.
    said = (await stream.reader.read()).decode()
    assert "<policy-violation" in said and said.endswith("</stream:error></stream:stream>"), said
    assert "may have at most 262144 bytes" in said
    stream.drop()


def test_who_is_told_an_error_and_sends_on_is_not_reset(own_server):
    with socket.create_connection(("127.0.0.1", own_server.starttls), timeout=20) as client:
        client.sendall((raw.HEADER + "<iq><a>" + "x" * 11_000).encode())
        said = b""
        while not said.endswith(b"</stream:stream>"):
            more = client.recv(65536)
            assert more, said
            said += more
        assert b"<policy-violation" in said and b" 10240 bytes" in said
        # Once the server has closed a socket, the first bytes are answered with a reset.
        for _ in range(20):
            client.sendall(b"x" * 10_000)
        assert client.recv(65536) == b""


def lines(server, words):
    return [line for line in server.log.read_text().splitlines() if words in line]


@pytest.mark.parametrize("settings", [{}, {"VORPAL_LOG_LEVEL": "debug"}, {"VORPAL_LOG_FORMAT": "json"}], ids=["text", "debug", "json"])
async def test_failed_logins_are_logged_with_their_true_reason_and_fail2ban_reads_them(tmp_path, settings):
    server = Server(tmp_path / "data", **settings)
    server.start()
    try:
        user, disabled = server.add_user(), server.add_user()
        server.command("user", "disable", str(disabled))
        assert await guess(server, user.name, user.password) == "success"
        for name, password in [(user.name, "s3cret"), ("nobody", "s3cret"), (disabled.name, "s3cret")]:
            assert await guess(server, name, password) == "not-authorized"
        assert await guess(server, disabled.name, disabled.password) == "account-disabled"
        # No name of an account, but somebody's idea of a line of the log.
        forged = 'x\n WARN login failed peer=192.0.2.9 port=1 account="'
        assert await guess(server, forged, "s3cret", "127.0.0.2") in ("not-authorized", "malformed-request")
        for n in range(10):
            await guess(server, "often", f"s3cret{n}", "127.0.0.3")
        assert await guess(server, "often", "s3cret", "127.0.0.3") == "temporary-auth-failure"
        await give_up(server, user.name, "127.0.0.4")
        log = server.log.read_text()
        assert "s3cret" not in log and user.password not in log and disabled.password not in log
        if settings.get("VORPAL_LOG_FORMAT"):
            entries = [json.loads(line) for line in lines(server, "login failed")]
            told = [(e["fields"]["peer"], e["fields"]["account"], e["fields"]["reason"]) for e in entries]
            assert {e["level"] for e in entries} == {"WARN"} and {e["fields"]["mechanism"] for e in entries} <= {"PLAIN", "SCRAM-SHA-1", "-"}
        else:
            found = [re.search(r'login failed peer=(\S+) port=\d+ account="(.*)" mechanism="\S+" reason="(.*)"', line)
                     for line in lines(server, "login failed")]
            told = [match.groups() for match in found]
        assert told[:3] == [("127.0.0.1", str(user), "no such account or wrong password"),
                            ("127.0.0.1", "nobody@localhost", "no such account"),
                            ("127.0.0.1", str(disabled), "the account is disabled")]
        assert told[3] == told[2]
        assert [peer for peer, _, _ in told].count("127.0.0.2") == 1
        # Of one address ten lines are written, and the rest is counted.
        assert [peer for peer, _, _ in told].count("127.0.0.3") == 10
        assert [reason for peer, _, reason in told if peer == "127.0.0.4"] == ["invalid-mechanism", "aborted"]
        assert len(lines(server, "logged in")) == 1
        done = subprocess.run(["fail2ban-regex", "--print-all-matched", str(server.log), str(ROOT / "contrib/fail2ban/vorpal.conf")],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"Lines: \d+ lines, 2 ignored, 15 matched", done.stdout), done.stdout
        assert "192.0.2.9" not in {peer for peer, _, _ in told}
    finally:
        server.stop()


def test_orders_leave_a_trail(tmp_path):
    file = tmp_path / "vorpal.toml"
    file.write_text('hosts = ["localhost"]\n')
    server = Server(tmp_path / "data", VORPAL_CONFIG=str(file)).start()
    try:
        user = server.add_user()
        server.command("user", "passwd", str(user), stdin="an0ther\n")
        server.command("user", "disable", str(user))
        server.command("user", "enable", str(user))
        server.command("config", "apply")
        server.command("status")
        kick = subprocess.run([BINARY, "session", "kick", f"{user}/x"], env=server.env, capture_output=True, text=True)
        assert kick.returncode == 1
        server.command("user", "rm", "--yes", str(user))
        trail = [re.search(r'INFO order order="(.*?)" on="(.*?)" uid=(\d+) pid=\d+ outcome="(.*?)"', line).groups()
                 for line in lines(server, " INFO order ")]
        uid = str(os.geteuid())
        assert trail == [("user add", str(user), uid, "done"), ("user passwd", str(user), uid, "done"),
                         ("user disable", str(user), uid, "done"), ("user enable", str(user), uid, "done"),
                         ("config apply", "", uid, "done"), ("session kick", f"{user}/x", uid, "refused"),
                         ("user rm", str(user), uid, "done")]
        assert "an0ther" not in server.log.read_text() and user.password not in server.log.read_text()
    finally:
        server.stop()


async def test_a_flood_of_idle_connections_from_many_networks_does_not_keep_others_waiting(own_server):
    server = own_server
    users = [server.add_user() for _ in range(12)]
    idle, opened = collections.deque(), 0

    async def flood_from(n):
        nonlocal opened
        while True:
            connection = socket.socket()
            connection.setblocking(False)
            connection.bind((f"127.1.{n}.1", 0))
            connection.connect_ex(("127.0.0.1", server.direct_tls))
            idle.append(connection)
            opened += 1
            # The server has long closed the oldest.
            if len(idle) > 6_000:
                idle.popleft().close()
            await asyncio.sleep(0.1)  # the pace of the flood

    floods = [asyncio.create_task(flood_from(n)) for n in range(80)]
    try:
        await until(lambda: opened > 1_600, "the flood")
        took = []
        for n, user in enumerate(users):
            began = time.monotonic()
            async with asyncio.timeout(30):
                assert await guess(server, user.name, user.password, f"127.2.{n}.1") == "success"
            took.append(time.monotonic() - began)
    finally:
        for task in floods:
            task.cancel()
        for connection in idle:
            connection.close()
    print("logins under a flood took", " ".join(f"{seconds:.3f}" for seconds in sorted(took)), "s")
    assert sorted(took)[len(took) // 2] < 0.5 and max(took) < 2


V2 = b"\r\n\r\n\0\r\nQUIT\n"


def proxy_header(client):
    """A PROXY protocol header, version 2, for a connection of a client (its address and port), or of the proxy itself."""
    if client is None:
        return V2 + b"\x20\x00\x00\x00"
    address = ipaddress.ip_address(client[0])
    family, to = (b"\x11", b"\x7f\0\0\1") if address.version == 4 else (b"\x21", b"\0" * 15 + b"\1")
    beside = b"\x04\x00\x02hi"
    rest = address.packed + to + client[1].to_bytes(2) + b"\x14\xa0" + beside
    return V2 + b"\x21" + family + len(rest).to_bytes(2) + rest


class Proxy:
    """A proxy in front of a listener, which reports one address for all its clients."""

    @classmethod
    async def open(cls, server, header):
        self = cls()
        self.server, self.header = server, header
        self.listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def serve(self, reader, writer):
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.server.plain)
        # In two pieces, as a network may deliver it.
        to_server.write(self.header[:9])
        await to_server.drain()
        to_server.write(self.header[9:])

        async def pass_on(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except ConnectionError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pass_on(reader, to_server), pass_on(from_server, writer))


@pytest.fixture
def proxied(tmp_path, request):
    port = free_port()
    server = Server(tmp_path / "data", VORPAL_LISTEN_C2S_PLAIN=f"127.0.0.1:{port}", VORPAL_LOGIN_PLAIN_WITHOUT_TLS="true",
                    VORPAL_LIMITS_LOGIN_FAILURES="5/h", **getattr(request, "param", {}))
    server.plain = port
    server.start()
    yield server
    server.stop()
    assert server.complaints() == []


named = pytest.mark.parametrize("proxied", [{"VORPAL_LISTEN_C2S_PLAIN_PROXY": "true"}], indirect=True)


@named
async def test_behind_a_proxy_that_names_its_clients_each_is_limited_and_logged_by_its_address(proxied):
    server = proxied
    user = server.add_user()
    one = await Proxy.open(server, proxy_header(("198.51.100.7", 40_000)))
    other = await Proxy.open(server, proxy_header(("2001:db8:7::1", 40_001)))
    itself = await Proxy.open(server, proxy_header(None))
    for n in range(5):
        assert await guess(server, f"guess{n}", "wrong", port=one.port) == "not-authorized"
    assert await guess(server, user.name, user.password, port=one.port) == "temporary-auth-failure"
    assert await guess(server, user.name, user.password, port=other.port) == "success"
    assert await guess(server, user.name, user.password, port=itself.port) == "success"
    failed = lines(server, "login failed")
    assert len(failed) == 6 and all("peer=198.51.100.7 port=40000 " in line for line in failed)
    assert 'reason="too many failed before"' in failed[5]
    assert [re.search(r"peer=(\S+) port=", line)[1] for line in lines(server, "logged in")] == ["2001:db8:7::1", "127.0.0.1"]


async def told(server, first):
    """What the server answers to a connection that begins with this, until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.plain)
    writer.write(first)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@named
async def test_without_the_header_that_was_promised_a_connection_is_closed(proxied):
    server = proxied
    for first in (b"<stream:stream", b"PROXY TCP4 198.51.100.7 127.0.0.1 1 2\r\n", V2 + b"\x21\x41\0\0", V2 + b"\x21\x11\xff\xff"):
        assert await told(server, first) == b""
    # Who says nothing is closed as well, after some seconds.
    assert await told(server, V2[:5]) == b""
    assert len(lines(server, "wants a header from the proxy")) == 4


async def test_behind_a_proxy_that_names_nobody_wrong_passwords_do_not_lock_everybody_out(proxied):
    server = proxied
    user = server.add_user()
    for n in range(40):
        assert await guess(server, f"guess{n}", "wrong", port=server.plain) == "not-authorized"
    assert await guess(server, user.name, user.password, port=server.plain) == "success"


def test_health_is_told_while_others_send_half_a_request(tmp_path):
    port = free_port()
    server = Server(tmp_path / "data", VORPAL_LISTEN_METRICS=f"127.0.0.1:{port}")
    server.monitoring = port
    server.start()
    try:
        halves = []
        for _ in range(3):
            for _ in range(20):
                connection = socket.create_connection(("127.0.0.1", port))
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
                halves.append(connection)
            began = time.monotonic()
            assert get(server, "/health")[:2] == (200, "ok\n")
            assert time.monotonic() - began < 2
        # The newest are still there, and are answered if they go on.
        halves[-1].sendall(b"\r\n")
        assert halves[-1].recv(100).startswith(b"HTTP/1.1 200")
        for connection in halves:
            connection.close()
    finally:
        server.stop()
