"""The unit in contrib/systemd: systemd accepts it, it confines the server, and the server can do its work."""

import json
import os
import re
import subprocess
import time
import urllib.request

import pytest

from raw import Session
from server import BINARY, ROOT, Server, free_port

UNIT = ROOT / "contrib" / "systemd" / "vorpal.service"
SYSUSERS = UNIT.parent / "sysusers.conf"
TMPFILES = UNIT.parent / "tmpfiles.conf"
# What `systemd-analyze security` may find, in tenths, of 100. A service without any setting has 96.
EXPOSURE = 15
# SQLite gives files that it makes to the owner of the database, but only as root, which the unit's user is not.
AS_ROOT = {"fchown"} if os.geteuid() == 0 else set()


@pytest.fixture
def unit(tmp_path):
    """The unit for the program under test."""
    text = UNIT.read_text()
    installed = "=/usr/local/bin/vorpal "
    assert text.count(installed) == 2
    file = tmp_path / UNIT.name
    file.write_text(text.replace(installed, f"={BINARY} "))
    return file


def analyze(*words):
    env = os.environ | {"SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, timeout=60, env=env)


def test_systemd_understands_every_line(unit):
    checked = analyze("verify", "--recursive-errors=no", "--man=no", str(unit))
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_server_is_kept_in(unit):
    checked = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(unit))
    assert checked.returncode == 0, checked.stdout


def test_a_server_that_cannot_start_is_tried_again_without_end():
    sections = dict(re.findall(r"^\[(\w+)\]\n(.*?)(?=^\[|\Z)", UNIT.read_text(), re.MULTILINE | re.DOTALL))
    assert re.findall(r"^StartLimit.*$", sections["Unit"], re.MULTILINE) == ["StartLimitIntervalSec=0"]
    assert re.findall(r"^Restart.*$", sections["Service"], re.MULTILINE) == ["Restart=always", "RestartSec=5"]


def test_the_manager_is_told_of_states_and_a_refused_reload_fails():
    # What the server tells, and that `config apply` fails, is tested in crates/server/tests/notify.rs.
    assert settings("Type") == ["notify"]
    serve, apply = settings("ExecStart"), settings("ExecReload")
    assert [command.removesuffix("serve") for command in serve] == [command.removesuffix("config apply") for command in apply]


def test_the_user_and_the_directories_are_those_of_the_unit(tmp_path):
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    made = subprocess.run(["systemd-sysusers", f"--root={root}", str(SYSUSERS)], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    users = [line.split(":") for line in (root / "etc" / "passwd").read_text().splitlines()]
    (user,) = [user for user in users if user[0] == "vorpal"]
    assert settings("User") == ["vorpal"] and user[5:] == ["/var/lib/vorpal", "/usr/sbin/nologin"]
    words = ["systemd-tmpfiles", f"--root={root}", "--create", str(TMPFILES)]
    made = subprocess.run(words, capture_output=True, text=True, timeout=60)
    # Only root can give directories to others (EX_CANTCREAT); a line that is not understood ends with EX_DATAERR.
    assert made.returncode == (0 if os.geteuid() == 0 else os.EX_CANTCREAT), made.stderr
    if os.geteuid() == 0:
        found = {path: (root / path).stat() for path in ("etc/vorpal", "var/lib/vorpal")}
        modes = {path: (stat.st_uid, stat.st_mode & 0o777) for path, stat in found.items()}
        assert modes == {"etc/vorpal": (0, 0o755), "var/lib/vorpal": (int(user[2]), 0o700)}
    assert settings("StateDirectoryMode") == ["0700"]


def settings(name):
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def of_set(name, known={}):
    """The system calls of a set, as systemd defines it."""
    if name not in known:
        listed = analyze("syscall-filter", name)
        assert listed.returncode == 0, listed.stderr
        words = [line.strip() for line in listed.stdout.splitlines()[1:]]
        words = [word for word in words if word and not word.startswith("#")]
        known[name] = set().union(*(of_set(word) if word.startswith("@") else {word} for word in words))
    return known[name]


def allowed():
    calls = set(of_set("@default"))
    for filter in settings("SystemCallFilter"):
        sets = set().union(*(of_set(word) for word in filter.lstrip("~").split()))
        calls = calls - sets if filter.startswith("~") else calls | sets
    return calls | of_set("@default")


class Traced(Server):
    """A server whose system calls are recorded."""

    def spawn(self, log):
        self.calls = self.data.parent / "calls"
        words = ["strace", "-f", "-qq", "-o", str(self.calls), BINARY, "serve"]
        return subprocess.Popen(words, env=self.env, cwd=self.data.parent, stderr=log, stdin=subprocess.DEVNULL)

    def signal(self, name):
        server = subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], text=True)
        subprocess.run(["kill", f"-{name}", server.strip()], check=True)

    def stop(self):
        if self.process.poll() is None:
            self.signal("TERM")
            assert self.process.wait(60) == 0

    def made(self):
        """The calls that it made, and the files outside its data directory that it opened."""
        text = self.calls.read_text(errors="replace")
        calls = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", text, re.MULTILINE))
        return calls, set(re.findall(r'open(?:at)?\([^"\n]*"(/[^"]+)"', text))


async def test_the_server_makes_no_system_call_that_is_refused(tmp_path):
    pages = free_port()
    file = tmp_path / "vorpal.toml"
    file.write_text('hosts = ["localhost"]\n')
    server = Traced(tmp_path / "data", VORPAL_CONFIG=str(file), VORPAL_LISTEN_METRICS=f"127.0.0.1:{pages}").start()
    try:
        romeo, juliet = server.add_user("romeo"), server.add_user("juliet")
        session = await Session(server, romeo).log_in()
        session.send(f"<message to='{juliet.jid}' type='chat' id='kept'><body>wait for her</body></message>")
        session.ask()
        while session.unacked:
            session.take(await session.stream.read())
        for page in "metrics", "health":
            with urllib.request.urlopen(f"http://127.0.0.1:{pages}/{page}", timeout=20) as answer:
                assert answer.status == 200
        file.write_text('hosts = ["localhost", "other.example"]\n')
        server.signal("HUP")
        deadline = time.monotonic() + 30
        while "other.example" not in json.dumps(server.json("status")):
            assert time.monotonic() < deadline, "the configuration was not read again"
        server.command("user", "passwd", juliet.jid, stdin="another\n")
        server.command("user", "rm", "--yes", juliet.jid)
        session.stream.drop()
    finally:
        server.stop()
    calls, opened = server.made()
    # All of it was seen: connections, the sync of a promise, the limit on descriptors that is asked for or set.
    assert {"accept4", "fdatasync", "prlimit64", "rt_sigaction"} <= calls
    assert calls - allowed() - AS_ROOT == set()
    # ProcSubset=pid: of /proc there are processes alone.
    assert {path for path in opened if path.startswith("/proc/") and not path.startswith("/proc/self/")} == set()
    # What cannot be had by the unit's user: devices beside those of PrivateDevices.
    devices = {path for path in opened if path.startswith("/dev/")}
    assert devices <= {"/dev/null", "/dev/urandom", "/dev/random", "/dev/tty"}
