"""Connections that break off at every stage of login leak neither memory nor descriptors.

CHURN: number of connections (1,000), after a warm-up with as many (at most 2,000).
"""

import json
import os
import subprocess
from pathlib import Path

from server import BINARY, Server

COUNT = int(os.environ.get("CHURN", 1_000))
LOAD = Path(BINARY).parent / "vorpal-load"
# A session that stayed would cost 10 KB or more, a connection more than that. What the allocator keeps in its threads and
# what the store keeps of its file do not grow with the connections: so much in all is granted, in MB, however many they are.
SLACK = 4
# And so much for each, in bytes: what is noted of failed logins, of names and addresses.
EACH = 200


async def test_connections_that_end_at_every_stage_of_login_leave_the_memory_as_it_was(tmp_path):
    # No session waits for its client: that would be memory well spent.
    server = Server(tmp_path / "data", VORPAL_LIMITS_CONNECTION_RATE="1000000/min",
                    VORPAL_LIMITS_LOGIN_FAILURES="1000000/min").start()
    try:
        for number in range(100):
            server.command("user", "add", f"u{number}@localhost", stdin="secret\n")
        churn = [LOAD, "--pid", str(server.process.pid), "--port", str(server.starttls), "--json", "--timeout", "1200", "churn",
                 "--count", str(COUNT)]
        done = subprocess.run(churn, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        row = json.loads(done.stdout)
        print(row)
        grown = row["churn_rss_after_mb"] - row["churn_rss_before_mb"]
        assert row["churn_connections"] == COUNT
        assert grown < SLACK + EACH * COUNT / 1_000_000, row
        assert row["churn_files_after"] <= row["churn_files_before"], row
        assert server.json("session", "list") == []
    finally:
        server.stop()
    assert server.complaints() == []
