"""Which traces of a password stay in the server's memory, and who may read that memory."""

import base64
import os
import resource
import secrets

import pytest

from client import until


def memory(pid):
    """All writable memory of the process, region by region."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            area, modes, *_ = line.split()
            start, end = (int(part, 16) for part in area.split("-"))
            if modes.startswith("rw") and "[v" not in line:
                mem.seek(start)
                yield mem.read(end - start)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of the server")
async def test_no_password_stays_in_memory(own_server, connect):
    password = secrets.token_hex(12)
    own_server.users += 1
    jid = f"user{own_server.users}@localhost"
    own_server.command("user", "add", jid, stdin=password + "\n")
    name = jid.partition("@")[0]

    class User:
        def __str__(self):
            return jid

    user = User()
    user.password = password
    client = await connect(own_server, user, "one", mechanism="PLAIN").started()
    assert client.boundjid.bare == jid
    # The login is over; what the worker read last is overwritten by what it reads next.
    for _ in range(3):
        other = connect(own_server, user, "two", mechanism="SCRAM-SHA-1", password="wrong")
        await until(lambda: other.times("failed_all_auth"), "the refusal")
    payload = base64.b64encode(f"\0{name}\0{password}".encode()).rstrip(b"=")[:-2]
    for piece in memory(own_server.process.pid):
        assert password.encode() not in piece
        assert payload not in piece


async def test_a_server_cannot_be_dumped(own_server):
    assert resource.prlimit(own_server.process.pid, resource.RLIMIT_CORE) == (0, 0)
