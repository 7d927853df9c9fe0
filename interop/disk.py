"""A disk that can be full: a small file system of its own, in memory."""

import contextlib
import subprocess


class Disk:
    """The mounted directory, and what fills it. Needs the right to mount; fails where that cannot be had."""

    def __init__(self, path, megabytes):
        self.path, self.ballast = path, path / "ballast"
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "none", path]
        mounted = subprocess.run(mount, capture_output=True, text=True)
        assert mounted.returncode == 0, f"a full disk cannot be tried without the right to mount: {mounted.stderr.strip()}"

    def fill(self):
        """Takes all the room there is."""
        with contextlib.suppress(OSError), self.ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def make_room(self):
        self.ballast.unlink(missing_ok=True)

    def unmount(self):
        subprocess.run(["umount", self.path], check=True)
