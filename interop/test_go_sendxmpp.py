"""go-sendxmpp 0.5.6 of Debian 12, built on Go's own TLS and XML: sends once, and listens."""

import asyncio
import os

import pytest

from client import until


async def go_sendxmpp(server, user, *words, certificate=None):
    """Starts it, trusting the server's certificate or another."""
    env = os.environ | {"SSL_CERT_FILE": str(certificate or server.certificate), "SSL_CERT_DIR": "/nonexistent"}
    return await asyncio.create_subprocess_exec(
        "go-sendxmpp", "-u", user.jid, "-p", user.password, *words, env=env, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)


async def send(server, user, *words, text, **trust):
    process = await go_sendxmpp(server, user, *words, **trust)
    said, _ = await asyncio.wait_for(process.communicate(text.encode()), 30)
    return process.returncode, said.decode()


@pytest.mark.parametrize("direct_tls", [False, True])
async def test_it_sends_a_message(server, connect, direct_tls):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    b = await connect(server, b_user, "one").online()
    where = ["-t", "-j", f"localhost:{server.direct_tls}"] if direct_tls else ["-j", f"localhost:{server.starttls}"]
    text = "from Go: < & > é 😀"
    assert await send(server, a_user, *where, b_user.jid, text=text) == (0, "")
    await until(b.bodies, "the message")
    assert b.bodies() == [text]
    assert b.chats[0]["from"].bare == a_user.jid


async def test_it_refuses_a_certificate_that_it_does_not_know(server, tmp_path):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    (tmp_path / "none.crt").write_text("")
    code, said = await send(server, a_user, "-j", f"localhost:{server.starttls}", b_user.jid, text="no",
                            certificate=tmp_path / "none.crt")
    assert code != 0 and "x509" in said


async def test_it_refuses_to_go_on_with_a_wrong_password(server):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    a_user.password = "wrong"
    code, said = await send(server, a_user, "-j", f"localhost:{server.starttls}", b_user.jid, text="no")
    assert code != 0 and "auth" in said.lower()


async def test_it_prints_what_it_is_sent(server, connect):
    a_user, b_user = server.add_user("a"), server.add_user("b")
    b = await connect(server, b_user, "one").online()
    b.say(a_user, "waited")
    assert await b.plugin["xep_0199"].ping("localhost") < 10
    process = await go_sendxmpp(server, a_user, "-l", "-j", f"localhost:{server.starttls}")
    try:
        for body in ("waited", "live"):
            if body == "live":
                b.say(a_user, body)
            line = await asyncio.wait_for(process.stdout.readline(), 30)
            assert line.decode().rstrip("\n").endswith(f"Z {b_user}: {body}")
    finally:
        process.kill()
        await process.wait()
