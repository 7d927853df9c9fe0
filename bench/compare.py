#!/usr/bin/env python3
"""Prints the rows of the performance table for Vorpal and for Prosody from its Debian package, in the same run.

The figure that counts is the server's own CPU time per unit of work. Each server is started here as a throw-away instance
in a temporary directory, on high ports of the loopback address, with certificates of the same kind and the same accounts, limits off. On a machine
that others use too, CPU times grow twofold and more: compare only within a run, and take --rounds 3 for what matters.

    cargo build --release -p vorpal-load
    apt-get install prosody
    bench/compare.py                                # Prosody alone
    bench/compare.py --vorpal target/release/vorpal # both; also by the environment, VORPAL=...
    bench/compare.py --quick                        # a minute or two; without the largest rows
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOMAIN = "localhost"
PASSWORD = "secret"
ROUNDS = 10000  # of PBKDF2, Prosody's default
START_SECONDS = 30
TRIAL = 3000  # messages in all


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def certificate(folder):
    """A self-signed P-256 certificate."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
         "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}", "-keyout", key, "-out", cert],
        check=True, capture_output=True)
    return key, cert


class Server:
    """A throw-away instance. Subclasses say how it is configured, given its accounts, and started."""

    def __init__(self, accounts):
        self.folder = Path(tempfile.mkdtemp(prefix=f"compare-{self.name}-"))
        self.port, self.direct_port = free_port(), free_port()
        self.plain_port = self.port  # where a client may stay without TLS
        self.key, self.cert = certificate(self.folder)
        self.process = None
        try:
            self.prepare(accounts)
        except (OSError, subprocess.SubprocessError) as error:
            self.remove()
            raise SystemExit(f"{self.name}: {error}") from error

    def start(self):
        self.stop()
        with open(self.folder / "output.txt", "ab") as output:
            self.process = subprocess.Popen(self.command(), cwd=self.folder, stdout=output, stderr=output)
        end = time.time() + START_SECONDS
        while time.time() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                time.sleep(0.5)
                return
            except OSError:
                time.sleep(0.1)
        said = (self.folder / "output.txt").read_text(errors="replace")[-2000:]
        raise SystemExit(f"{self.name} does not start:\n{said}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Prosody(Server):
    name = "prosody"

    def version(self):
        found = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "prosody"], capture_output=True, text=True)
        return found.stdout.strip() or "of unknown version"

    def command(self):
        return ["prosody", "--config", str(self.folder / "prosody.cfg.lua"), "-F"]

    def prepare(self, accounts):
        (self.folder / "prosody.cfg.lua").write_text(f"""
run_as_root = {"true" if os.geteuid() == 0 else "false"}
daemonize = false
pidfile = "{self.folder}/prosody.pid"
data_path = "{self.folder}/data"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.port} }}
c2s_direct_tls_ports = {{ {self.direct_port} }}
modules_disabled = {{ "s2s" }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "carbons", "pep", "private", "blocklist", "vcard4",
  "vcard_legacy", "smacks", "csi_simple", "time", "uptime", "ping", "version", "bookmarks", "offline", "posix" }}
c2s_require_encryption = false
authentication = "internal_hashed"
storage = "internal"
log = {{ warn = "{self.folder}/prosody.log" }}
ssl = {{ key = "{self.key}"; certificate = "{self.cert}" }}
VirtualHost "{DOMAIN}"
""")
        # What `prosodyctl register` would write, without starting it thousands of times. One salt for all spares the
        # load program derivations; to the server it makes no difference.
        salt = "compare"
        salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), salt.encode(), ROUNDS)
        stored = hashlib.sha1(hmac.digest(salted, b"Client Key", "sha1")).hexdigest()
        server = hmac.digest(salted, b"Server Key", "sha1").hex()
        text = (f'return {{ ["iteration_count"] = {ROUNDS}; ["salt"] = "{salt}"; '
                f'["stored_key"] = "{stored}"; ["server_key"] = "{server}"; }};\n')
        folder = self.folder / "data" / DOMAIN / "accounts"
        folder.mkdir(parents=True)
        for number in range(accounts):
            (folder / f"u{number}.dat").write_text(text)


class Vorpal(Server):
    """How Vorpal is configured, given its accounts and started: all that has to follow its command line is here."""

    name = "vorpal"
    binary = []

    def version(self):
        return subprocess.run(self.binary + ["--version"], capture_output=True, text=True).stdout.strip()

    def command(self):
        return self.binary + ["--config", str(self.folder / "vorpal.toml"), "serve"]

    def prepare(self, accounts):
        self.plain_port = free_port()
        (self.folder / "vorpal.toml").write_text(f"""
hosts = ["{DOMAIN}"]
data = "{self.folder}/data"

[listen]
c2s = ["127.0.0.1:{self.port}"]
c2s_tls = ["127.0.0.1:{self.direct_port}"]
c2s_plain = ["127.0.0.1:{self.plain_port}"]

[tls]
certificate = "{self.cert}"
key = "{self.key}"

[log]
level = "warn"

[limits]
connections = 100000
connection_rate = "1000000/min"
login_failures = "1000000/min"
traffic = "1 GB/s"
traffic_burst = "1 GiB"
""")
        salt = os.urandom(16)
        salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), salt, ROUNDS)
        stored = hashlib.sha1(hmac.digest(salted, b"Client Key", "sha1")).digest()
        server = hmac.digest(salted, b"Server Key", "sha1")
        text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
        credentials = f"SCRAM-SHA-1${ROUNDS}:{text[0]}${text[1]}:{text[2]}"
        users = self.folder / "users"
        users.write_text("".join(f"u{number}@{DOMAIN} {credentials}\n" for number in range(accounts)))
        subprocess.run(self.binary + ["--config", str(self.folder / "vorpal.toml"), "user", "import", str(users)],
                       check=True, timeout=300)


class Row:
    """One run of the load program, and the figures of it that are shown."""

    def __init__(self, mode, options, figures, fresh=False, pairs=0, seconds=0):
        self.mode, self.options, self.figures, self.fresh = mode, options, figures, fresh
        self.pairs, self.seconds = pairs, seconds  # of a chat, which is as long as the server's speed makes it


def rows(quick):
    def chat(label, pairs, *options):
        return Row("chat", ["--pairs", pairs, *options],
                   [(f"{label}, µs per message", "chat_cpu_us"), ("… latency p99, ms", "chat_latency_p99_ms")],
                   pairs=pairs, seconds=2 if quick else 10)

    def idle(label, count, *options):
        return Row("idle", ["--sessions", count, *options],
                   [(f"{label} at {count:,}, KB", "idle_rss_kb_per_session")], fresh=True)

    plan = [
        Row("login", ["--users", 100 if quick else 400],
            [("login, ms", "login_cpu_ms"), ("login, 16 at a time, ms", "login_wide_cpu_ms")]),
        chat("chat, 10 pairs, one in flight", 10),
        chat("chat, 10 pairs, eight in flight", 10, "--in-flight", 8),
        chat("chat, stream management, 50 pairs", 50, "--sm", 5),
        chat("chat, carbons, two resources each", 10, "--carbons"),
        idle("idle session without TLS", 1000, "--plain"),
        idle("idle session", 1000),
    ]
    if not quick:
        plan += [
            idle("idle session with stream management and carbons", 1000, "--sm", 5, "--carbons"),
            idle("idle session", 10_000),
        ]
    return plan


def measure(load, server, row):
    if row.fresh or server.process is None:
        server.start()
    if not row.seconds:
        return run(load, server, row, [])
    # A short run says how many messages fit the time, and warms the server up.
    found = run(load, server, row, ["--messages", TRIAL // row.pairs])
    if not found:
        return {}
    return run(load, server, row, ["--messages", max(TRIAL, int(found["chat_per_s"] * row.seconds)) // row.pairs])


def run(load, server, row, more):
    port = server.plain_port if "--plain" in row.options else server.port
    command = [load, "--pid", server.process.pid, "--port", port, "--domain", DOMAIN, "--password", PASSWORD,
               "--json", row.mode, *row.options, *more]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{server.name}: {row.mode}: {done.stderr.strip()}", file=sys.stderr)
        server.stop()  # it may be in any state; the next row gets a new one
        return {}
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vorpal", default=os.environ.get("VORPAL"), help="command of Vorpal's binary")
    parser.add_argument("--no-prosody", action="store_true")
    parser.add_argument("--load", default=ROOT / "target/release/vorpal-load", help="the load program")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=1, help="take the median of so many runs of everything")
    parser.add_argument("--json", action="store_true", help="print all figures of all rounds instead of the table")
    options = parser.parse_args()
    if not Path(options.load).exists():
        parser.error(f"{options.load} is missing: cargo build --release -p vorpal-load")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # inherited by all

    kinds = []
    if options.vorpal:
        Vorpal.binary = shlex.split(options.vorpal)
        Vorpal.binary[0] = shutil.which(Vorpal.binary[0]) or Vorpal.binary[0]
        Vorpal.binary[0] = str(Path(Vorpal.binary[0]).resolve())
        kinds.append(Vorpal)
    if not options.no_prosody:
        if not shutil.which("prosody"):
            parser.error("prosody is not installed; --no-prosody leaves it out")
        kinds.append(Prosody)
    plan = rows(options.quick)
    accounts = max(count for row in plan for count in row.options if isinstance(count, int) and row.mode == "idle")

    servers = []
    found = {}  # (row, server) -> list of figures
    try:
        for kind in kinds:
            servers.append(kind(accounts))
        for _ in range(options.rounds):
            for number, row in enumerate(plan):
                for server in servers:
                    found.setdefault((number, server.name), []).append(measure(options.load, server, row))
                    if row.fresh:
                        server.stop()
            for server in servers:
                server.stop()
    finally:
        for server in servers:
            server.remove()

    if options.json:
        print(json.dumps([{"server": name, "mode": plan[number].mode, "options": plan[number].options, "runs": runs}
                          for (number, name), runs in found.items()], indent=1))
        return
    print("| | " + " | ".join(f"{s.name} {s.version()}".replace("vorpal vorpal", "vorpal") for s in servers) + " |")
    print("|---|" + "---|" * len(servers))
    for number, row in enumerate(plan):
        for label, figure in row.figures:
            cells = []
            for server in servers:
                values = [run[figure] for run in found[number, server.name] if figure in run]
                cells.append(f"{statistics.median(values):,.2f}" if values else "failed")
            print(f"| {label} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
