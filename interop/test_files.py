"""Owners and permissions of the server's files."""

import os
import subprocess
from pathlib import Path

import pytest

from server import BINARY, Server

# A user that every Debian has, and who owns nothing here.
OTHER = 2


def mode(path):
    return path.stat(follow_symlinks=False).st_mode & 0o777


def everything(folder):
    return [folder, *folder.rglob("*")]


def run(server, *words, **options):
    return subprocess.run([BINARY, *words], env=server.env, cwd=server.data.parent, text=True, capture_output=True,
                          timeout=30, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def open_umask():
    """The most permissive umask: files created with it are accessible to everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


async def test_whatever_the_umask_nobody_else_can_open_what_the_server_makes(tmp_path, open_umask, connect):
    server = Server(tmp_path / "data")
    offline = Server(tmp_path / "offline")
    server.start()
    user = server.add_user()
    client = await connect(server, user, "one").online()
    client.say(user, "something for the database")
    offline.add_user()
    for path in everything(server.data) + everything(offline.data):
        if path.suffix != ".crt":  # a certificate is public, in a directory that is not
            assert mode(path) & 0o077 == 0, f"{path}: {mode(path):o}"
    names = {path.name for path in everything(server.data)}
    assert {"vorpal.db", "vorpal.db-wal", "vorpal.db-shm", "vorpal.lock", "admin.sock", "localhost.key"} <= names
    server.stop()


def test_what_is_open_to_others_is_closed_at_the_start_and_the_operator_told(tmp_path):
    server = Server(tmp_path / "data").start()
    server.add_user()
    server.kill()
    for path in everything(server.data):
        path.chmod(0o755 if path.is_dir() else 0o644)
    server.start()
    for path in everything(server.data):
        if path.suffix != ".crt":
            assert mode(path) & 0o077 == 0, f"{path}: {mode(path):o}"
    lines = [line for line in server.log.read_text().splitlines() if "its mode was corrected" in line]
    for name in ("data", "vorpal.db", "vorpal.db-wal", "vorpal.db-shm", "vorpal.lock", "tls", "localhost.key"):
        assert any(f"{name} " in line for line in lines), name
    server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
def test_root_does_not_touch_the_data_of_another_user(tmp_path):
    server = Server(tmp_path / "data").start()
    server.add_user()
    server.stop()
    for path in everything(server.data):
        os.chown(path, OTHER, OTHER)
    before = {path: path.stat() for path in everything(server.data)}
    for words in (["user", "list"], ["user", "add", "juliet@localhost", "--password", "secret"], ["serve"]):
        told = run(server, *words)
        assert told.returncode == 1, words
        for part in (f"the data directory {server.data} belongs to bin", "runs as root", "`sudo -u bin vorpal …`"):
            assert part in told.stderr, told.stderr
    after = {path: path.stat() for path in everything(server.data)}
    assert {p: (s.st_uid, s.st_mtime_ns) for p, s in before.items()} == {p: (s.st_uid, s.st_mtime_ns) for p, s in after.items()}


@pytest.mark.skipif(os.geteuid() != 0, reason="runs as another user")
def test_a_file_that_root_left_behind_is_named(tmp_path):
    # Others cannot look into the directories of tests.
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/tmp") and "pytest" in str(parent):
            parent.chmod(0o755)
    server = Server(tmp_path / "data").start()
    server.stop()
    for path in everything(server.data):
        os.chown(path, OTHER, OTHER)
    os.chown(server.data / "vorpal.db", 0, 0)
    program = tmp_path / "vorpal"
    program.write_bytes(Path(BINARY).read_bytes())
    program.chmod(0o755)
    told = subprocess.run([program, "user", "list"], env=server.env, cwd="/", user=OTHER, group=OTHER, text=True,
                          capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
    assert told.returncode == 1
    assert f"{server.data}/vorpal.db belongs to root" in told.stderr and "`chown bin " in told.stderr, told.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="runs as another user")
def test_another_user_is_told_who_may_ask_the_server(tmp_path):
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/tmp") and "pytest" in str(parent):
            parent.chmod(0o755)
    server = Server(tmp_path / "data").start()
    program = tmp_path / "vorpal"
    program.write_bytes(Path(BINARY).read_bytes())
    program.chmod(0o755)
    try:
        for words in (["status"], ["user", "list"], ["trace", "a@localhost"], ["top", "--once"]):
            told = subprocess.run([program, *words], env=server.env, cwd="/", user=OTHER, group=OTHER, text=True,
                                  capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
            assert told.returncode == 1
            # The data directory is closed to others: whether the socket is there is not for this user to see.
            there = f"a server may be there, at {server.data}/admin.sock, but bin may not look for it: "
            assert there in told.stderr and f"{server.data} belongs to root, with mode 0700" in told.stderr, told.stderr
            assert "Run the command as root, `sudo -u root vorpal …`" in told.stderr, told.stderr
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="what root may do")
def test_root_does_not_take_a_directory_in_use(tmp_path):
    server = Server(tmp_path / "data")
    server.data.mkdir(mode=0o755)
    (server.data / "letter.txt").write_text("dear")
    os.chown(server.data, OTHER, OTHER)
    told = run(server, "user", "add", "juliet@localhost", "--password", "secret")
    assert told.returncode == 1 and "holds files that are not Vorpal's" in told.stderr, told.stderr
    assert "chown" not in told.stderr and mode(server.data) == 0o755 and [p.name for p in server.data.iterdir()] == ["letter.txt"]
