"""What `crash.py` does by hand in many rounds, in a few."""

import os
import random

from crash import crash


async def test_no_kill_loses_or_doubles_what_was_acknowledged(tmp_path):
    rounds, seed = int(os.environ.get("ROUNDS", 5)), random.randrange(1_000_000)
    acknowledged, lost, doubled, words = await crash(tmp_path, rounds, seed)
    assert (lost, doubled, words) == (0, 0, []), f"seed {seed}:\n" + "\n".join(words)
    assert acknowledged > 100 * rounds
