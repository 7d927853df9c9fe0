"""The rows of the performance table: what is run for each, which figures are shown, and the targets."""

import subprocess
import sys

from servers import Failed

BUSY = 0.3  # cores that others may use while one core is compared with two
TRIAL = 3000  # messages in all, of the short run that tells how many fit the time


class Figure:
    """A line of the table. The target is the maximum, or with `least` the minimum; `round` is the number of digits."""

    def __init__(self, label, name, aim=None, least=False, digits=2):
        self.label, self.name, self.aim, self.least, self.digits = label, name, aim, least, digits

    def aim_text(self):
        return "–" if self.aim is None else f"{'≥' if self.least else '≤'} {self.aim:g}"

    def missed(self, value):
        return self.aim is not None and (value < self.aim if self.least else value > self.aim)


class Row:
    """One run of the load program. `needs` lists what must be in the server's data before: (mode, options) once each."""

    def __init__(self, key, figures, mode, *options, prefix="u", archive=False, fresh=False, plain=False, only=None,
                 needs=()):
        self.key, self.figures, self.mode, self.options, self.prefix = key, figures, mode, options, prefix
        self.archive, self.fresh, self.plain, self.only, self.needs = archive, fresh, plain, only, needs

    def measure(self, run, server):
        """The figures by name. `run(server, mode, options)` runs the load program."""
        if self.only and server.name != self.only:
            return None
        options = ["--user-prefix", self.prefix, *self.options]
        if self.plain:
            options += ["--plain", "--port", server.can_plain()]
        server.start(archive=self.archive, fresh=self.fresh)
        for need in self.needs:
            if need not in server.done:
                mode, *words = need
                run(server, mode, words)
                server.done.add(need)
        return self.take(run, server, options)

    def take(self, run, server, options):
        return run(server, self.mode, options)


class Chat(Row):
    """As many messages as fit into the time; that number differs a hundredfold among servers."""

    def __init__(self, key, figures, seconds, pairs, *options, **more):
        super().__init__(key, figures, "chat", "--pairs", pairs, *options, **more)
        self.seconds, self.pairs = seconds, pairs

    def take(self, run, server, options):
        # The short run warms the server up, too.
        found = run(server, "chat", [*options, "--messages", max(4, TRIAL // self.pairs)])
        messages = max(TRIAL, int(found["chat_per_s"] * self.seconds))
        return run(server, "chat", [*options, "--messages", messages // self.pairs])


class Page(Row):
    """Enough pages to be measurable in steps of 10 ms, for Vorpal and for servers that take a hundred times as long."""

    def __init__(self, key, figures, pages, rows, **more):
        super().__init__(key, figures, "page", "--span", min(300, rows // 50 - 5), archive=True, **more)
        self.pages = pages

    def take(self, run, server, options):
        pages = self.pages if server.name == "vorpal" else max(10, self.pages // 10)
        return run(server, "page", [*options, "--pages", pages])


class Managed(Chat):
    """Stream management against the same chat without, one after the other."""

    def take(self, run, server, options):
        plain = super().take(run, server, options)
        found = super().take(run, server, [*options, "--sm", 5])
        return found | {"plain_cpu_us": plain["chat_cpu_us"], "sm_more_us": found["chat_cpu_us"] - plain["chat_cpu_us"]}


class Cores(Row):
    """The same bursts on one core, then on two; crates/load/src/burst.rs explains why bursts are used. A server cannot gain more
    than the machine: its two cores may be two threads of one, or share their cache with busy neighbours. So the gain of two
    independent processes is measured and shown as well."""

    def __init__(self, key, figures, times):
        super().__init__(key, figures, "burst", "--pairs", 200, "--messages", 250)
        self.times = times

    def measure(self, run, server):
        # Enough of them to be seen in steps of 10 ms, for us and for those who take twenty times as long.
        times = self.times if server.name == "vorpal" else max(1, self.times // 5)
        options = ["--user-prefix", self.prefix, *self.options, "--times", times]
        before = gain()
        server.start(core=0, fresh=True)
        one = run(server, self.mode, options)
        server.start(fresh=True)
        two = run(server, self.mode, options)
        others = max(one["burst_others_cores"], two["burst_others_cores"])
        if others > BUSY:
            # Taking off what others used is a correction for little: with more, ratios above 2 have come out.
            raise Failed(f"the machine is too busy: others used {others:.2f} cores during a burst, at most {BUSY} may be")
        return {
            "one_core_us": one["burst_core_us"], "two_cores_us": two["burst_core_us"],
            "one_core_per_s": one["burst_per_s"], "two_cores_per_s": two["burst_per_s"],
            "one_cpu_us": one["burst_cpu_us"], "two_cpu_us": two["burst_cpu_us"],
            "cores_used": two["burst_cores_used"], "others_cores": two["burst_others_cores"],
            "cores_ratio": 2 * one["burst_core_us"] / two["burst_core_us"],
            "machine_ratio": (before + gain()) / 2,
        }


SPIN = """
import hashlib, time
data, work, end = bytes(1024), 0, time.perf_counter() + 0.7
while time.perf_counter() < end:
    for _ in range(100):
        hashlib.sha256(data).digest()
    work += 100
print(work / time.process_time())
"""


def gain():
    """How much more two processes on two cores compute than one on one core, by the CPU time that each of them gets."""
    def speed(*cores):
        spinning = [subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", SPIN], stdout=subprocess.PIPE,
                                     text=True) for core in cores]
        return sum(float(process.communicate()[0]) for process in spinning)
    return speed(0, 1) / speed(0)


def fill(prefix, messages):
    """Fills the archives of a pair of accounts with this many messages each, through the server. About 60 are in flight, so that
    a server that commits in groups can."""
    return ("chat", "--archived", "--user-prefix", prefix, "--pairs", 1, "--in-flight", 60, "--messages", messages)


def plan(quick):
    seconds = 2 if quick else 10
    ring = ["--users", 200 if quick else 500, "--contacts", 20]
    made = ("subscribe", "--user-prefix", "r", *ring)

    def idle(key, label, count, aim, *options, **more):
        return Row(key, [Figure(f"{label} at {count:,}, KB", "idle_rss_kb_per_session", aim, digits=1)],
                   "idle", "--sessions", count, *options, fresh=True, **more)

    def page(key, prefix, rows, **more):
        return Page(key, [Figure(f"archive page of 50, {rows:,} rows, ms", "page_cpu_ms", 0.35),
                          Figure("… as the client sees it, p99, ms", "page_wall_p99_ms")],
                    100 if quick else 300, rows, prefix=prefix, needs=[fill(prefix, rows)], **more)

    p99 = lambda aim: Figure("… latency p99, ms", "chat_latency_p99_ms", aim)
    rows = [
        Row("fresh", [Figure("fresh server, MB", "fresh_rss_mb", digits=1)], "fresh", fresh=True),
        Row("login", [Figure("login, one after the other, ms", "login_cpu_ms"),
                      Figure("login, 16 at a time, ms", "login_wide_cpu_ms", 0.40)],
            "login", "--users", 100 if quick else 1000),
        Chat("chat", [Figure("chat, 10 pairs, one in flight, µs", "chat_cpu_us", 10, digits=1)], seconds, 10),
        Chat("chat8", [Figure("chat, 10 pairs, eight in flight, µs", "chat_cpu_us", 6, digits=1)], seconds, 10, "--in-flight", 8),
        Chat("latency", [Figure("full load, 50 pairs, eight in flight: p50, ms", "chat_latency_p50_ms"), p99(2)],
             seconds, 50, "--in-flight", 8),
        Chat("carbons", [Figure("chat, carbons, two resources each, µs", "chat_cpu_us", 22, digits=1)], seconds, 10, "--carbons"),
        Managed("sm", [Figure("chat, stream management, 50 pairs, µs", "chat_cpu_us", digits=1),
                       Figure("… more than without, µs", "sm_more_us", 10, digits=1)], seconds, 50),
        Row("missed", [Figure("missed message, stored, µs", "missed_store_cpu_us", 20, digits=1),
                       Figure("missed message, delivered, µs", "missed_deliver_cpu_us", 8, digits=1)],
            "missed", "--pairs", 50, "--messages", 100 if quick else 400, prefix="m"),
        Row("subscribe", [Figure("one subscription made, 16 pairs of users at a time, ms", "subscribe_cpu_ms", 0.15)],
            "subscribe", "--users", 100 if quick else 200, "--contacts", 10, prefix="s"),
        Row("storm", [Figure(f"presence storm, {ring[1]} users × 20 contacts, µs per pair", "storm_cpu_us_per_pair", 6, digits=1),
                      Figure("… everybody away, µs per pair", "storm_change_cpu_us_per_pair", digits=1)],
            "storm", *ring, prefix="r", needs=[made]),
        Chat("archived", [Figure("chat, archived for both, 50 pairs, µs", "chat_cpu_us", 25, digits=1), p99(10)],
             seconds, 50, "--archived", prefix="a", archive=True),
        page("page", "ps", 2000),
        Cores("cores", [Figure("message in a burst, one core, µs of it", "one_core_us"),
                        Figure("message in a burst, two cores, µs of both", "two_cores_us"),
                        Figure("… so two cores do so many times as much", "cores_ratio", 1.7, least=True),
                        Figure("… what the machine gives, computing only", "machine_ratio")], 3 if quick else 10),
        Row("churn", [Figure("connections ended at every stage: MB before", "churn_rss_before_mb", digits=1),
                      Figure("… MB after", "churn_rss_after_mb", digits=1),
                      Figure("… growth per connection, bytes", "churn_growth_bytes", 100, digits=0),
                      Figure("… descriptors more than before", "churn_files_more", 0, digits=0)],
            "churn", "--count", 1100 if quick else 10_000, fresh=True),
        idle("idle-plain", "idle session without TLS", 1000, 5, plain=True),
        idle("idle", "idle session", 1000, 10),
        idle("idle-sm", "idle session, stream management and carbons", 1000, None, "--sm", 5, "--carbons"),
    ]
    if not quick:
        rows += [
            page("page-large", "pl", 20_000),
            page("page-million", "pm", 1_000_000, only="vorpal"),
            idle("idle-plain-10k", "idle session without TLS", 10_000, 5, plain=True),
            idle("idle-10k", "idle session", 10_000, 10),
        ]
    return rows


def accounts(quick):
    """The names of all accounts that the rows use."""
    counts = {"u": 1000 if quick else 10_000, "m": 100, "s": 200, "r": 500, "a": 100, "ps": 2, "pl": 2, "pm": 2}
    return [f"{prefix}{number}" for prefix, count in counts.items() for number in range(count)]


def needs_descriptors(row):
    """Number of descriptors that a run of this row needs, in the server and in the load program."""
    sessions = [count for word, count in zip(row.options, row.options[1:]) if word == "--sessions"]
    return max(sessions, default=1000) + 200


def check_descriptors(row, limit):
    if needs_descriptors(row) > limit:
        raise Failed(f"needs {needs_descriptors(row):,} descriptors, and the limit is {limit:,}: ulimit -Hn")
