"""What is left of something in the files of a server."""

import asyncio
import time

CHUNK = 1 << 20


def traces(folder, words):
    """Which words are in which files, whichever files there are: pairs of a file's name and a word."""
    words = [word.encode() if isinstance(word, str) else word for word in words]
    overlap = max(map(len, words)) - 1
    found = set()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        try:
            with path.open("rb") as file:
                end = b""
                while chunk := file.read(CHUNK):
                    text = end + chunk
                    found |= {(path.name, word.decode(errors="replace")) for word in words if word in text}
                    end = text[-overlap:] if overlap else b""
        except FileNotFoundError:
            pass  # it went while it was looked for
    return found


async def gone(folder, words, within):
    """Waits until none of the words is in any file. Returns after how many seconds that was."""
    began = time.monotonic()
    while found := traces(folder, words):
        some = sorted(found)[:5]
        assert time.monotonic() - began < within, f"{len(found)} traces after {within} s, such as {some}"
        await asyncio.sleep(0.25)
    return time.monotonic() - began
