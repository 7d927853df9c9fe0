"""What an operator sees: the metrics as Prometheus reads them, /health, `vorpal top`, `vorpal trace`, and a disk that fills up."""

import http.client
import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from client import until
from server import BINARY, Server, free_port
from test_operating import settled


@pytest.fixture
def watched(tmp_path):
    """A server with monitoring enabled."""
    port = free_port()
    server = Server(tmp_path / "data", VORPAL_LISTEN_METRICS=f"127.0.0.1:{port}")
    server.monitoring = port
    server.start()
    yield server
    server.stop()
    assert server.complaints() == []


def get(server, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.monitoring}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def metrics(server):
    """All series, read by Prometheus' own parser: name, or name with the value of its single label."""
    status, text, headers = get(server, "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    series = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type != "unknown", family
        for sample in family.samples:
            key = ":".join([sample.name, *sample.labels.values()])
            assert key not in series
            series[key] = sample.value
    return series


async def test_the_numbers_after_a_chat_are_those_of_the_chat(watched, connect):
    server = watched
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one", smacks=True).online()
    b = await connect(server, b_user, "one", smacks=True).online()
    for n in range(5):
        a.say(b_user, f"there {n}")
    b.say(a_user, "and back")
    a.say("nobody@localhost", "to nobody")
    await until(lambda: len(b.bodies()) == 5 and a.bodies() == ["and back"] and a.errors, "all messages and the error")

    seen = metrics(server)
    assert seen["vorpal_stanzas_received_total:message"] == 7
    assert seen["vorpal_stanzas_received_total:presence"] >= 2
    assert seen["vorpal_messages_delivered_total:itself"] == 7
    assert seen["vorpal_messages_bounced_total:service-unavailable"] == 1
    assert seen["vorpal_log_entries_written_total"] == 6
    assert seen["vorpal_sessions_attached"] == seen["vorpal_sessions_available"] == 2
    assert seen["vorpal_connections:starttls"] == 2 == seen["vorpal_tls_handshakes_total:done"]
    assert sum(value for key, value in seen.items() if key.startswith("vorpal_logins_total:")) == 2
    assert seen["vorpal_network_received_bytes_total"] > 1000 < seen["vorpal_network_sent_bytes_total"]
    commits = seen["vorpal_store_commit_seconds_count"]
    assert 0 < commits == seen["vorpal_store_commits_total"] == seen["vorpal_store_commit_seconds_bucket:+Inf"]
    assert seen["vorpal_store_batches_total:committed"] >= 7 and seen["vorpal_store_batches_total:full"] == 0
    assert seen["vorpal_store_takes_writes"] == 1 and seen["vorpal_panics_total"] == 0
    assert seen["vorpal_disk_free_bytes"] > 0 and seen["process_resident_memory_bytes"] > 1 << 20

    a.say(b_user, "one more")
    await until(lambda: len(b.bodies()) == 6, "one more")
    assert metrics(server)["vorpal_stanzas_received_total:message"] == 8
    await b.leave()
    await until(lambda: metrics(server)["vorpal_connections:starttls"] == 1, "one connection less")


async def test_a_wrong_password_and_a_resumption_are_counted(watched, connect):
    server = watched
    user = server.add_user()
    stranger = connect(server, user, "two", password="wrong")
    await until(lambda: stranger.times("failed_all_auth"), "the refusal")
    seen = metrics(server)
    assert seen["vorpal_login_failures_total:not-authorized"] >= 1
    assert sum(value for key, value in seen.items() if key.startswith("vorpal_logins_total:")) == 0
    client = await connect(server, user, "one", smacks=True).online()
    client.abort()
    await until(lambda: client.times("session_resumed"), "the resumption")
    assert metrics(server)["vorpal_resumptions_total:done"] == 1


def test_health_is_ok_and_there_is_nothing_else(watched):
    assert get(watched, "/health")[:2] == (200, "ok\n")
    assert get(watched, "/")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", watched.monitoring, timeout=10)
    connection.request("POST", "/metrics", body="x" * 100)
    assert connection.getresponse().status == 405
    connection = http.client.HTTPConnection("127.0.0.1", watched.monitoring, timeout=10)
    connection.request("GET", "/health", headers={f"X-{n}": "y" for n in range(200)})
    assert connection.getresponse().status == 431


def test_without_the_key_nothing_listens_for_monitoring(own_server):
    log = own_server.log.read_text()
    assert "listening for clients" in log and "listening for monitoring" not in log


async def test_top_shows_a_second(own_server, connect):
    server = own_server
    user = server.add_user()
    client = await connect(server, user, "one", smacks=True).online()
    # Commands wait for an answer: this one runs beside the test, so that there is something to count.
    top = subprocess.Popen([BINARY, "--json", "top", "--once"], env=server.env, cwd=server.data.parent, text=True,
                           stdout=subprocess.PIPE)
    said = 0
    while top.poll() is None:
        client.say(user, "to myself")
        said += 1
        await until(lambda: len(client.bodies()) == said, "a message to oneself")
    assert top.returncode == 0
    lines = top.stdout.read().splitlines()
    assert len(lines) == 1
    view = json.loads(lines[0])
    assert view["attached"] == 1 and view["trouble"] is None
    assert view["messages_per_second"] > 0 and view["commits_per_second"] > 0 and view["commit_ms_p99"] > 0
    assert view["slow_commits"] and view["slow_commits"][0]["ms"] > 0
    assert view["busiest"][0]["jid"] == str(user)
    screen = server.command("top", "--once").splitlines()
    assert len(screen) < 24 and all(len(line) < 80 for line in screen)
    assert screen[0].startswith("vorpal ") and "takes writes" in screen[0]
    assert "1 connected" in screen[1]


async def test_trace_shows_the_way_of_a_message_and_not_what_it_says(own_server, connect):
    server = own_server
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a = await connect(server, a_user, "one", smacks=True).online()
    b = await connect(server, b_user, "one", smacks=True).online()
    trace = subprocess.Popen([BINARY, "--json", "trace", str(b_user)], env=server.env, cwd=server.data.parent,
                             stdout=subprocess.PIPE)
    os.set_blocking(trace.stdout.fileno(), False)
    read = bytearray()

    def steps():
        read.extend(trace.stdout.read() or b"")
        return [json.loads(line) for line in read.split(b"\n")[:-1]]

    try:
        # It is there when it tells of anything.
        await until(lambda: b.say(a_user, "warming up") and steps(), "that the account is followed")
        a.say(b_user, "nobody else's business", id="m1")
        await until(lambda: "nobody else's business" in b.bodies(), "the message")
        mine = lambda: [step["step"] for step in steps() if step.get("id") == "m1"]
        await until(lambda: mine() == ["planned", "home", "given"], "its way")
        entry = next(step["entry"] for step in steps() if step.get("id") == "m1" and step["step"] == "given")
        await until(lambda: [s for s in steps() if s["step"] == "taken" and s.get("entry") == entry], "that it was taken")
        committed = [s for s in steps() if s["step"] == "committed" and s.get("entry") == entry]
        assert len(committed) == 1 and committed[0]["commit_ms"] >= 0
        assert b"business" not in read
    finally:
        trace.terminate()
        trace.wait()
    refused = subprocess.run([BINARY, "trace", "nobody@localhost"], env=server.env, cwd=server.data.parent, text=True,
                             capture_output=True, timeout=30)
    assert refused.returncode == 1 and "there is no account nobody@localhost" in refused.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MiB. Needs root, as in a CI container; without it the test fails."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", str(place)]
    if os.geteuid() != 0:
        mount.insert(0, "sudo")
        mount.insert(1, "--non-interactive")
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"a file system of 64 MiB cannot be mounted, and without it this is not tested: {done.stderr}")
    yield place
    subprocess.run([*mount[:-7], "umount", "--lazy", str(place)], check=True)


async def test_below_the_reserve_new_messages_are_refused_and_old_ones_are_delivered(small_disk, connect):
    port = free_port()
    server = Server(small_disk / "data", VORPAL_LISTEN_METRICS=f"127.0.0.1:{port}", VORPAL_STORAGE_RESERVE="16 MiB")
    server.monitoring = port
    server.start()
    try:
        a_user, b_user = server.add_user("a"), server.add_user("b")
        a = await connect(server, a_user, "one", smacks=True).online()
        a.say(b_user, "in time", id="m1")
        await settled(a)
        assert get(server, "/health")[0] == 200

        filler = small_disk / "filler"
        filler.write_bytes(b"\0" * (50 << 20))
        await until(lambda: get(server, "/health")[0] == 503, "that the server sees it")
        assert "16 MiB are reserved" in get(server, "/health")[1]
        a.say(b_user, "too late", id="m2")
        await until(lambda: [e for e in a.errors if e["id"] == "m2"], "the error")
        assert a.errors[0]["error"]["condition"] == "resource-constraint" and a.errors[0]["error"]["type"] == "wait"
        await settled(a)
        b = await connect(server, b_user, "one", smacks=True).online()
        await until(lambda: b.bodies() == ["in time"], "what was promised")
        seen = metrics(server)
        assert seen["vorpal_store_takes_writes"] == 0 and seen["vorpal_reserve_refusals_total"] == 1
        assert seen["vorpal_store_batches_total:full"] == 0, "it said no in time"

        filler.unlink()
        await until(lambda: get(server, "/health")[0] == 200, "that it recovers by itself")
        a.say(b_user, "again", id="m3")
        await until(lambda: b.bodies() == ["in time", "again"], "a message")
        complaints = server.complaints()
        assert len(complaints) == 1 and "nearly full" in complaints[0], complaints
    finally:
        server.stop()
