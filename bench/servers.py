"""The servers that are compared: temporary instances on high ports of the loopback address, in temporary directories, with
certificates of the same kind, the same accounts with the same keys, and limits off. Each server's class defines how it is
configured, given its accounts and started; everything else is shared.
"""

import base64
import hashlib
import hmac
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

DOMAIN = "localhost"
PASSWORD = "secret"
ROUNDS = 10000  # of PBKDF2, Prosody's default
START_SECONDS = 60
STOP_SECONDS = 15
ERLANG = Path("/usr/lib/x86_64-linux-gnu")


class Failed(Exception):
    """The reason why a row has no figure."""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:  # all at once: a port that was let go may be given again
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def certificate(folder):
    """A self-signed P-256 certificate."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
         "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}", "-keyout", key, "-out", cert],
        check=True, capture_output=True)
    return key, cert


def keys(salt):
    """SCRAM-SHA-1's stored key and server key. One salt for all accounts saves the load program derivations; it
    makes no difference to a server."""
    salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), salt, ROUNDS)
    stored = hashlib.sha1(hmac.digest(salted, b"Client Key", "sha1")).digest()
    return stored, hmac.digest(salted, b"Server Key", "sha1")


class Server:
    """A temporary instance. Subclasses have `configure`, which writes the configuration for a start, `add`, which makes
    the accounts once, and `command`."""

    def __init__(self, accounts):
        self.folder = Path(tempfile.mkdtemp(prefix=f"compare-{self.name}-"))
        self.process = None
        self.running = None  # the options it was started with
        self.done = set()  # preparations that its data has seen
        try:
            self.port, self.direct_port, self.plain_port = free_ports(3)
            self.key, self.cert = certificate(self.folder)
            self.configure(archive=False)
            self.add(accounts)
        except BaseException:
            self.remove()
            raise

    def start(self, archive=False, core=None, fresh=False):
        """Starts it with these options; restarts it if it ran with others, or if `fresh` is set. `core` binds it to one core."""
        wanted = (archive, core)
        if self.process and self.process.poll() is None and self.running == wanted and not fresh:
            return
        self.stop()
        self.configure(archive)
        command = ["taskset", "-c", str(core)] if core is not None else []
        with open(self.folder / "output.txt", "ab") as output:
            self.process = subprocess.Popen(command + self.command(), cwd=self.folder, stdout=output, stderr=output,
                                            env=os.environ | self.environment(), start_new_session=True)
        end = time.time() + START_SECONDS
        while time.time() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                time.sleep(0.5)
                self.running = wanted
                return
            except OSError:
                time.sleep(0.1)
        self.stop()
        said = (self.folder / "output.txt").read_text(errors="replace").strip().splitlines()
        raise Failed(f"{self.name} does not start: {said[-1][:500] if said else 'it says nothing'}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        if self.process:
            try:  # what is left of it and its children: it has a process group of its own
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
        self.process = self.running = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self):
        return {}

    def can_plain(self):
        """Whether it listens without TLS, and where."""
        return self.port

    @classmethod
    def version(cls):
        found = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", cls.name], capture_output=True, text=True)
        return f"{cls.name} {found.stdout.strip() or 'of unknown version'}"


class Vorpal(Server):
    name = "vorpal"
    binary = []

    @classmethod
    def use(cls, command):
        cls.binary = shlex.split(command)
        cls.binary[0] = str(Path(shutil.which(cls.binary[0]) or cls.binary[0]).resolve())

    @classmethod
    def version(cls):
        return subprocess.run(cls.binary + ["--version"], capture_output=True, text=True).stdout.strip()

    @classmethod
    def knows(cls, key):
        """Whether this binary has such a configuration key."""
        done = subprocess.run(cls.binary + ["config", "explain", key], capture_output=True, text=True)
        return done.returncode == 0

    def command(self):
        return self.binary + ["--config", str(self.folder / "vorpal.toml"), "serve"]

    def can_plain(self):
        if not self.knows("listen.c2s_plain"):
            raise Failed("this Vorpal has no listener without TLS")
        return self.plain_port

    def configure(self, archive):
        plain = f'c2s_plain = ["127.0.0.1:{self.plain_port}"]' if self.knows("listen.c2s_plain") else ""
        # Without the module the load program finds that no archive is advertised, and says so.
        mam = f"[modules.mam]\nenabled = {str(archive).lower()}" if self.knows("modules.mam.enabled") else ""
        (self.folder / "vorpal.toml").write_text(f"""
hosts = ["{DOMAIN}"]
data = "{self.folder}/data"

[listen]
c2s = ["127.0.0.1:{self.port}"]
c2s_tls = ["127.0.0.1:{self.direct_port}"]
{plain}

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

{mam}
""")

    def add(self, accounts):
        salt = os.urandom(16)
        text = [base64.b64encode(part).decode() for part in (salt, *keys(salt))]
        credentials = f"SCRAM-SHA-1${ROUNDS}:{text[0]}${text[1]}:{text[2]}"
        users = self.folder / "users"
        users.write_text("".join(f"{name}@{DOMAIN} {credentials}\n" for name in accounts))
        subprocess.run(self.binary + ["--config", str(self.folder / "vorpal.toml"), "user", "import", str(users)],
                       check=True, timeout=300, capture_output=True)


class Prosody(Server):
    """Files for storage, the default: it never syncs them."""

    name = "prosody"

    @classmethod
    def missing(cls):
        return not shutil.which("prosody")

    def command(self):
        return ["prosody", "--config", str(self.folder / "prosody.cfg.lua"), "-F"]

    def configure(self, archive):
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
  "vcard_legacy", "smacks", "csi_simple", "time", "uptime", "ping", "version", "bookmarks", "offline",
  "posix"{', "mam"' if archive else ''} }}
c2s_require_encryption = false
authentication = "internal_hashed"
storage = "internal"
log = {{ warn = "{self.folder}/prosody.log" }}
ssl = {{ key = "{self.key}"; certificate = "{self.cert}" }}
VirtualHost "{DOMAIN}"
""")

    def add(self, accounts):
        # What `prosodyctl register` would write, without starting it thousands of times.
        salt = "compare"
        stored, server = keys(salt.encode())
        text = (f'return {{ ["iteration_count"] = {ROUNDS}; ["salt"] = "{salt}"; '
                f'["stored_key"] = "{stored.hex()}"; ["server_key"] = "{server.hex()}"; }};\n')
        folder = self.folder / "data" / DOMAIN / "accounts"
        folder.mkdir(parents=True)
        for name in accounts:
            (folder / f"{name}.dat").write_text(text)


class Ejabberd(Server):
    """Mnesia for storage, the default: it syncs now and then. No distribution, so that no port mapper is started."""

    name = "ejabberd"

    @classmethod
    def missing(cls):
        return not (shutil.which("erl") and shutil.which("ejabberdctl"))

    def command(self, script=None):
        # What ejabberdctl runs in the end; it would change the user to one who cannot read the directory here.
        return ["erl", "+K", "true", "+P", "250000", "+Q", "65536", "-noinput", "-mnesia", "dir", f'"{self.folder}/data"',
                "-s", "ejabberd"] + (["-eval", script] if script else [])

    def environment(self):
        return {"EJABBERD_CONFIG_PATH": str(self.folder / "ejabberd.yml"), "HOME": str(self.folder),
                "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"), "ERL_LIBS": str(ERLANG),
                "ERL_CRASH_DUMP": "/dev/null", "ERL_MAX_PORTS": "65536"}

    def configure(self, archive):
        mam = "  mod_mam: {default: always, assume_mam_usage: true}" if archive else ""
        (self.folder / "ejabberd.yml").write_text(f"""
hosts: ["{DOMAIN}"]
loglevel: warning
log_rotate_count: 0
certfiles: ["{self.key}", "{self.cert}"]
auth_password_format: scram
disable_sasl_mechanisms: [digest-md5, X-OAUTH2]
listen:
  - {{port: {self.port}, ip: "127.0.0.1", module: ejabberd_c2s, starttls: true, max_stanza_size: 262144, backlog: 1000}}
  - {{port: {self.direct_port}, ip: "127.0.0.1", module: ejabberd_c2s, tls: true, max_stanza_size: 262144}}
shaper_rules:
  max_user_sessions: infinity
  max_user_offline_messages: infinity
modules:
  mod_adhoc: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_client_state: {{}}
  mod_disco: {{}}
  mod_last: {{}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_pubsub: {{plugins: [flat, pep]}}
  mod_push: {{}}
  mod_roster: {{versioning: true}}
  mod_shared_roster: {{}}
  mod_stream_mgmt: {{resend_on_timeout: if_offline}}
  mod_vcard: {{search: false}}
  mod_vcard_xupdate: {{}}
  mod_version: {{}}
{mam}
""")

    def add(self, accounts):
        """Registers one account; the others get a copy of its record under their names, in a separate run."""
        first, *others = accounts
        (self.folder / "names").write_text("".join(f"{name}\n" for name in others))
        script = f"""
            Wait = fun Again() -> case lists:keymember(ejabberd, 1, application:which_applications()) of
                true -> ok; false -> timer:sleep(100), Again() end end,
            Wait(),
            ok = ejabberd_auth:try_register(<<"{first}">>, <<"{DOMAIN}">>, <<"{PASSWORD}">>),
            [Model] = mnesia:dirty_match_object(mnesia:table_info(passwd, wild_pattern)),
            {{ok, Text}} = file:read_file("{self.folder}/names"),
            Names = [Name || Name <- binary:split(Text, <<"\\n">>, [global]), Name =/= <<>>],
            lists:foreach(fun(Name) ->
                mnesia:dirty_write(setelement(2, Model, setelement(1, element(2, Model), Name))) end, Names),
            mnesia:sync_log(), init:stop()."""
        with open(self.folder / "output.txt", "ab") as output:
            self.process = subprocess.Popen(self.command(script), cwd=self.folder, stdout=output, stderr=output,
                                            env=os.environ | self.environment(), start_new_session=True)
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            said = (self.folder / "output.txt").read_text(errors="replace")[-2000:]
            raise Failed(f"ejabberd's accounts: {said}") from None
        finally:
            self.stop()
