#!/usr/bin/env python3
"""Prints the rows of the performance table for Vorpal, and for Prosody and ejabberd from their Debian packages, in the same run.

The main figure is the server's own CPU time per unit of work. Each server is started as a temporary instance (servers.py). On a
shared machine CPU times can double or more: compare only within a run, and use --rounds 3 for important figures. Figures of
Vorpal that miss the target are bold. A row that fails shows the reason, and the others continue.

    cargo build --release -p vorpal -p vorpal-load
    apt-get install prosody ejabberd
    bench/compare.py                             # all rows, all three servers: half an hour
    bench/compare.py --quick                     # small counts, five minutes
    bench/compare.py --only chat,storm --rounds 3
    bench/compare.py --servers vorpal --json found.json   # figures are added to the file;
    bench/compare.py --show found.json                    # it is printed as a table
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
from pathlib import Path

from rows import accounts, check_descriptors, plan
from servers import DOMAIN, PASSWORD, Ejabberd, Failed, Prosody, Vorpal

ROOT = Path(__file__).resolve().parent.parent
KINDS = {kind.name: kind for kind in (Vorpal, Prosody, Ejabberd)}
PATIENCE = 900  # seconds for one run of the load program


def runner(load):
    def run(server, mode, options):
        command = [load, "--pid", server.process.pid, "--port", server.port, "--domain", DOMAIN, "--password", PASSWORD,
                   "--timeout", PATIENCE, "--json", mode]
        words = [str(word) for word in options]
        if "--port" in words:  # the row's own goes first
            del command[3:5]
        done = subprocess.run([str(word) for word in command] + words, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{mode}: {done.stderr.strip()[:400] or done.returncode}")
        found = json.loads(done.stdout)
        if "churn_files_after" in found:
            found["churn_files_more"] = found["churn_files_after"] - found["churn_files_before"]
        return found
    return run


def measure(run, server, row, limit):
    """The row's figures, or the reason why there are none."""
    try:
        check_descriptors(row, limit)
        return row.measure(run, server)
    except (Failed, OSError, subprocess.SubprocessError, KeyError) as error:
        reason = str(error) if isinstance(error, Failed) else repr(error)
        print(f"{server.name}: {row.key}: {reason}", file=sys.stderr)
        server.stop()  # it may be in any state; the next row gets a new one
        return {"failed": reason}


def take(options, rows, limit, found):
    """All rows of all servers, for each round: (row, server) -> figures of each round. Each round has new data."""
    run = runner(options.load)
    for _ in range(options.rounds):
        servers = []
        try:
            for name in options.servers:
                try:
                    servers.append(KINDS[name](accounts(options.quick)))
                except (Failed, OSError, subprocess.SubprocessError) as error:
                    said = getattr(error, "stderr", None) or ""
                    print(f"{name}: {error} {said}", file=sys.stderr)
                    for row in rows:
                        found.setdefault((row.key, name), []).append({"failed": f"{name} cannot be set up: {error}"})
            for row in rows:
                for server in servers:
                    figures = measure(run, server, row, limit)
                    if figures is not None:
                        found.setdefault((row.key, server.name), []).append(figures)
                    if row.fresh:
                        server.stop()
        finally:
            for server in servers:
                server.remove()


def table(rows, names, versions, found):
    print("| | aim | " + " | ".join(versions.get(name, name) for name in names) + " |")
    print("|---|---|" + "---|" * len(names))
    reasons = []
    for row in rows:
        runs = {name: found.get((row.key, name), []) for name in names}
        if not any(runs.values()):
            continue
        for figure in row.figures:
            cells = []
            for name in names:
                values = [run[figure.name] for run in runs[name] if figure.name in run]
                if values:
                    value = statistics.median(values)
                    text = f"{value:,.{figure.digits}f}"
                    cells.append(f"**{text}**" if name == "vorpal" and figure.missed(value) else text)
                else:
                    cells.append("failed" if runs[name] else "–")
            print(f"| {figure.label} | {figure.aim_text()} | " + " | ".join(cells) + " |")
        for name in names:
            for reason in dict.fromkeys(run["failed"] for run in runs[name] if "failed" in run):
                reasons.append(f"{name}, {row.figures[0].label}: {reason}")
    if reasons:
        print("\nFailed:\n" + "\n".join(f"- {reason}" for reason in reasons))


def load_results(path):
    kept = json.loads(Path(path).read_text()) if Path(path).exists() else {"versions": {}, "runs": []}
    found = {}
    for run in kept["runs"]:
        found.setdefault((run["row"], run["server"]), []).append(run["figures"])
    return kept["versions"], found


def save_results(path, versions, found):
    runs = [{"row": row, "server": name, "figures": figures} for (row, name), all in found.items() for figures in all]
    Path(path).write_text(json.dumps({"versions": versions, "runs": runs}, indent=1) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(KINDS), help="which, with commas between")
    parser.add_argument("--vorpal", default=os.environ.get("VORPAL", str(ROOT / "target/release/vorpal")),
                        help="command of Vorpal's binary; also by the environment, VORPAL=...")
    parser.add_argument("--load", default=ROOT / "target/release/vorpal-load", help="the load program")
    parser.add_argument("--quick", action="store_true", help="small counts, without the largest rows")
    parser.add_argument("--only", help="rows, with commas between: " + ", ".join(row.key for row in plan(False)))
    parser.add_argument("--rounds", type=int, default=1, help="take the median of so many runs of everything")
    parser.add_argument("--json", metavar="FILE", help="add all figures of all rounds to this file")
    parser.add_argument("--show", metavar="FILE", help="print the table of such a file, and run nothing")
    options = parser.parse_args()
    options.servers = options.servers.split(",")
    if unknown := set(options.servers) - set(KINDS):
        parser.error(f"no such server: {', '.join(unknown)}")
    rows = plan(options.quick)
    if options.only:
        wanted = options.only.split(",")
        if unknown := set(wanted) - {row.key for row in rows}:
            parser.error(f"no such row{' in the quick run' if options.quick else ''}: {', '.join(unknown)}")
        rows = [row for row in rows if row.key in wanted]
    return parser, options, rows


def main():
    parser, options, rows = arguments()
    if options.show:
        versions, found = load_results(options.show)
        table(rows, [name for name in KINDS if name in versions], versions, found)
        return
    if not Path(options.load).exists():
        parser.error(f"{options.load} is missing: cargo build --release -p vorpal-load")
    for name in options.servers:
        if name == "vorpal":
            Vorpal.use(options.vorpal)
            if not Path(Vorpal.binary[0]).exists():
                parser.error(f"{Vorpal.binary[0]} is missing: cargo build --release -p vorpal")
        elif KINDS[name].missing():
            parser.error(f"{name} is not installed: apt-get install {name}, or leave it out with --servers")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # inherited by all
    if limit == resource.RLIM_INFINITY:
        limit = 1 << 30
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are stopped, too

    versions, found, stopped = {name: KINDS[name].version() for name in options.servers}, {}, False
    try:
        take(options, rows, limit, found)
    except KeyboardInterrupt:
        stopped = True
        print("stopped: the table has the rows that were done", file=sys.stderr)
    table(rows, options.servers, versions, found)
    if options.json:
        before, all = load_results(options.json)
        for key, runs in found.items():
            all.setdefault(key, []).extend(runs)
        save_results(options.json, before | versions, all)
    if stopped:
        sys.exit(130)


if __name__ == "__main__":
    main()
