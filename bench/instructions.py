#!/usr/bin/env python3
"""Counts what one message costs in the whole server: instructions in user space, copies, allocations, UTF-8 validations.

The server runs under callgrind. Ten pairs of users log in over TLS and chat, one message in flight for each pair. While they chat,
callgrind counts for some seconds; the counts are divided by the number of messages that were routed in that time. Unlike CPU times
these figures hardly depend on the machine or on what else runs on it: from run to run they vary by one or two in a hundred. The
kernel's part is not seen. What happens once a second, such as the rows of progress, is spread over fewer messages than on a server
that does not run under callgrind. Figures that miss the aim are bold.

    apt-get install valgrind
    cargo build --release -p vorpal -p vorpal-load
    bench/instructions.py                        # all rows: two or three minutes
    bench/instructions.py --only chat --keep /tmp/profiles
    callgrind_annotate /tmp/profiles/chat.out    # which functions; --inclusive=yes, --tree=caller

Names of functions need symbols, and lines need line tables: the release profile has both. Where a profile strips them, build with
CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_DEBUG=line-tables-only.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from servers import DOMAIN, PASSWORD, Failed, Vorpal

ROOT = Path(__file__).resolve().parent.parent
PAIRS = 10
PLENTY = 10_000_000  # messages of a pair: more than are sent before the load program is ended
PATIENCE = 120  # seconds until the users chat, under valgrind
WARM_UP = 3  # seconds of chat before anything is counted: tables have grown, buffers are there
LEAST = 1000  # messages that a figure must be the mean of

# Called once for each message that is routed.
MESSAGE = r"vorpal_core::route::.*\bstretch$"
CALLS = {
    "memcpy": r"^_*mem(cpy|move)\w*$",
    "malloc": r"^(malloc|calloc|realloc|memalign|aligned_alloc|posix_memalign)$",
    "UTF-8": r"^core::str::converts::from_utf8$",
}


class Row:
    """One kind of chat. `aims` are the instructions of one message, now and later."""

    def __init__(self, key, label, aims, *options, archive=False):
        self.key, self.label, self.aims, self.options, self.archive = key, label, aims, options, archive


ROWS = [
    Row("chat", "chat", (20_000, 14_000)),
    Row("carbons", "carbons, two resources each", (36_000, 26_000), "--carbons"),
    Row("sm", "stream management, `<r/>` every 5", (45_000, 32_000), "--sm", 5),
    Row("archived", "archived for both", (62_000, 45_000), "--archived", archive=True),
]


class Counted(Vorpal):
    """A server that callgrind can count in."""

    def command(self):
        return ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={self.profile()}",
                *super().command()]

    def profile(self):
        return self.folder / "callgrind.out"

    def control(self, *words):
        command = ["callgrind_control", *words, str(self.process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode != 0 or "Error" in done.stdout:
            raise Failed(f"{' '.join(command)}: {done.stdout.strip()} {done.stderr.strip()}")

    def messages_per_second(self):
        command = self.binary + ["--config", str(self.folder / "vorpal.toml"), "--json", "top", "--once"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        return json.loads(done.stdout)["messages_per_second"] if done.returncode == 0 else 0


def wait_for_chat(server, load):
    end = time.monotonic() + PATIENCE
    while server.messages_per_second() < PAIRS:
        if load.poll() is not None:
            raise Failed(f"the load program ended: {load.stderr.read().strip()[:400]}")
        if time.monotonic() > end:
            raise Failed(f"nobody chats after {PATIENCE} seconds")
    time.sleep(WARM_UP)


def count(server, load_program, row, seconds):
    """Instructions, and the calls of all functions by name, while the users chat."""
    server.start(archive=row.archive, fresh=True)
    command = [load_program, "--pid", server.process.pid, "--port", server.port, "--domain", DOMAIN, "--password", PASSWORD,
               "--timeout", 2 * PATIENCE + seconds, "--user-prefix", row.key, "chat", "--pairs", PAIRS, "--messages", PLENTY, *row.options]
    load = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_chat(server, load)
        server.control("-i", "on")
        time.sleep(seconds)
        server.control("-i", "off")
        if load.poll() is not None:
            raise Failed(f"the load program ended: {load.stderr.read().strip()[:400]}")
    finally:
        load.kill()
        load.wait()
        server.stop()  # the profile is written at the end
    if not server.profile().exists():
        raise Failed("callgrind has written no profile")
    return read(server.profile().read_text(errors="replace"))


def read(profile):
    """The format: https://valgrind.org/docs/manual/cl-format.html. A name is written once, and is a number from then on."""
    names, calls, called, instructions = {}, Counter(), None, 0
    for line in profile.splitlines():
        if found := re.match(r"(c?)fn=\((\d+)\)(?: (.*))?", line):
            callee, number, name = found.groups()
            if name:
                names[number] = name
            if callee:
                called = number
        elif found := re.match(r"calls=(\d+)", line):
            calls[called] += int(found[1])
        elif found := re.match(r"totals: (\d+)", line):
            instructions = int(found[1])
    by_name = Counter()
    for number, times in calls.items():
        by_name[names[number]] += times
    return instructions, by_name


def figures(instructions, calls):
    def of(pattern):
        return sum(times for name, times in calls.items() if re.search(pattern, name))
    messages = of(MESSAGE)
    if messages == 0:
        raise Failed("no call of the function that routes a message: the binary has no symbols, or the function another name")
    if messages < LEAST:
        raise Failed(f"only {messages} messages were counted, at least {LEAST} must be: --seconds")
    return {"messages": messages, "instructions": instructions / messages} | {
        name: of(pattern) / messages for name, pattern in CALLS.items()}


def accounts(rows):
    """Each row has its own: what was under way when the load program of the row before was ended waits for them."""
    return [f"{row.key}{number}" for row in rows for number in range(2 * PAIRS)]


def table(found):
    print("| per message | instructions | " + " | ".join(f"`{name}`" if name != "UTF-8" else "UTF-8 validations" for name in CALLS)
          + " | aim | then | messages counted |")
    print("|---|---|" + "---|" * len(CALLS) + "---|---|---|")
    for row, each in found:
        instructions = f"{each['instructions']:,.0f}"
        instructions = f"**{instructions}**" if each["instructions"] > row.aims[0] else instructions
        cells = [row.label, instructions, *(f"{each[name]:.1f}" for name in CALLS), *(f"{aim:,}" for aim in row.aims),
                 f"{each['messages']:,}"]
        print("| " + " | ".join(cells) + " |")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vorpal", default=os.environ.get("VORPAL", str(ROOT / "target/release/vorpal")),
                        help="command of Vorpal's binary; also by the environment, VORPAL=...")
    parser.add_argument("--load", default=ROOT / "target/release/vorpal-load", help="the load program")
    parser.add_argument("--only", help="rows, with commas between: " + ", ".join(row.key for row in ROWS))
    parser.add_argument("--seconds", type=int, default=15, help="how long callgrind counts")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="keep the profiles there, for callgrind_annotate")
    options = parser.parse_args()
    options.rows = ROWS
    if options.only:
        wanted = options.only.split(",")
        if unknown := set(wanted) - {row.key for row in ROWS}:
            parser.error(f"no such row: {', '.join(unknown)}")
        options.rows = [row for row in ROWS if row.key in wanted]
    for program in ("valgrind", "callgrind_control"):
        if not shutil.which(program):
            parser.error(f"{program} is not installed: apt-get install valgrind")
    if not Path(options.load).exists():
        parser.error(f"{options.load} is missing: cargo build --release -p vorpal-load")
    Vorpal.use(options.vorpal)
    if not Path(Vorpal.binary[0]).exists():
        parser.error(f"{Vorpal.binary[0]} is missing: cargo build --release -p vorpal")
    return options


def main():
    options = arguments()
    server, found, failed = Counted(accounts(options.rows)), [], False
    try:
        for row in options.rows:
            try:
                found.append((row, figures(*count(server, options.load, row, options.seconds))))
            except (Failed, OSError, subprocess.SubprocessError) as error:
                failed = True
                print(f"{row.label}: {error}", file=sys.stderr)
            if options.keep and server.profile().exists():
                options.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(server.profile(), options.keep / f"{row.key}.out")
            server.profile().unlink(missing_ok=True)
    finally:
        server.remove()
    table(found)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
