"""The server under test: a real process on free loopback ports, with its data in a separate directory."""

import json
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = str(Path(os.environ.get("VORPAL", ROOT / "target" / "debug" / "vorpal")).resolve())


def free_port():
    """A port outside the range of ephemeral ports: it must still be free after a kill."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Server:
    def __init__(self, data: Path, **settings):
        self.data = data
        self.starttls = free_port()
        self.direct_tls = free_port()
        self.log = data.parent / (data.name + ".log")
        self.certificate = data / "tls" / "localhost.crt"
        self.process = None
        self.users = 0
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("VORPAL_")} | {
            # No file, also on a machine that has /etc/vorpal/vorpal.toml.
            "VORPAL_CONFIG": "",
            "VORPAL_DATA": str(data),
            "VORPAL_LISTEN_C2S": f"127.0.0.1:{self.starttls}",
            "VORPAL_LISTEN_C2S_TLS": f"127.0.0.1:{self.direct_tls}",
        } | settings

    def start(self):
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = self.spawn(log)
        deadline = time.monotonic() + 30
        while not any(ready in self.log.read_bytes()[said:] for ready in (b" ready ", b'"message":"ready"')):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{self.log.read_text()[said:]}")
            time.sleep(0.01)
        return self

    def spawn(self, log):
        return subprocess.Popen([BINARY, "serve"], env=self.env, cwd=self.data.parent, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self):
        """Ends it as a crash would: nothing is written, nothing is sent."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ends it as an operator would."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(30) == 0, "the server did not stop cleanly"

    def command(self, *words, stdin=None, env=None):
        done = subprocess.run([BINARY, *words], env=env or self.env, cwd=self.data.parent, input=stdin, text=True,
                              capture_output=True, timeout=30)
        assert done.returncode == 0, f"vorpal {' '.join(words)}: {done.stderr}"
        return done.stdout

    def json(self, *words, env=None):
        return json.loads(self.command("--json", *words, env=env))

    def add_user(self, name="user"):
        """Creates a unique user: its bare address, and its password."""
        self.users += 1
        jid, password = f"{name}{self.users}@localhost", f"secret {self.users}"
        self.command("user", "add", jid, stdin=password + "\n")
        return User(jid, password)

    def complaints(self):
        """Log lines that an operator must see: panics and errors."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if " ERROR " in line or "panicked" in line]


class User:
    def __init__(self, jid, password):
        self.jid = jid
        self.password = password
        self.name = jid.partition("@")[0]

    def __str__(self):
        return self.jid
