"""Runs `crash.py` for a few rounds. ROUNDS: how many (5)."""

import os
import random

import pytest

from crash import ENDS, crash


@pytest.mark.parametrize("how", ENDS)
async def test_nothing_that_was_acknowledged_is_lost_or_doubled_however_it_ends(tmp_path, how):
    rounds, seed = int(os.environ.get("ROUNDS", 5)), random.randrange(1_000_000)
    count = await crash(tmp_path, how, rounds, seed)
    assert (count.lost, count.doubled, count.words) == (0, 0, []), f"seed {seed}:\n" + "\n".join(count.words)
    assert count.acknowledged > 100 * rounds
    if how in ("cut", "stop"):
        assert count.repeated == 0
    if how == "kill":
        # What went out after the last commit, which is nearer the slower the machine is; not everything that waited for an <a/>.
        assert count.repeated < count.acknowledged // 20
