"""A disk that can be full: a file system of its own, in memory, whose size is changed."""

import os
import subprocess


class Disk:
    """The mounted directory. Needs the right to mount; fails where that cannot be had."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        done = self.mount("-t", "tmpfs", "-o", "size=16g,mode=700", "none", path)
        assert done.returncode == 0, f"a full disk cannot be tried without the right to mount: {done.stderr.strip()}"

    @staticmethod
    def mount(*words):
        return subprocess.run(["mount", *words], capture_output=True, text=True)

    def fill(self, pages=0):
        """There is no more room than what is used now, and some pages. Of no effect if the server takes a page at the same moment: say it
        again until it is seen."""
        disk = os.statvfs(self.path)
        used = (disk.f_blocks - disk.f_bfree + pages) * disk.f_frsize
        self.mount("-o", f"remount,size={used}", self.path)

    def make_room(self):
        done = self.mount("-o", "remount,size=16g", self.path)
        assert done.returncode == 0, done.stderr

    def unmount(self):
        subprocess.run(["umount", self.path], check=True)
