"""Traces of a text in the files of a server."""

import asyncio
import re
import time

CHUNK = 1 << 20
# No match is longer.
OVERLAP = 200


def traces(folder, pattern):
    """Matches in all files: pairs of a file's name and the text."""
    pattern, found = re.compile(pattern.encode()), set()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        try:
            with path.open("rb") as file:
                end = b""
                while chunk := file.read(CHUNK):
                    text = end + chunk
                    found |= {(path.name, match.decode(errors="replace")) for match in pattern.findall(text)}
                    end = text[-OVERLAP:]
        except FileNotFoundError:
            pass  # it went while it was looked for
    return found


async def gone(folder, pattern, within):
    """Waits until no file has a match. Returns after how many seconds that was."""
    began = time.monotonic()
    while found := traces(folder, pattern):
        some = sorted(found)[:5]
        assert time.monotonic() - began < within, f"{len(found)} traces after {within} s, such as {some}"
        await asyncio.sleep(0.25)
    return time.monotonic() - began
