"""A disk that can be full: a separate file system in memory, whose size can be changed."""

import os
import subprocess


class Disk:
    """The mounted directory. Needs permission to mount; fails without it."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        done = self.mount("-t", "tmpfs", "-o", "size=16g,mode=700", "none", path)
        assert done.returncode == 0, f"a full disk cannot be tried without the right to mount: {done.stderr.strip()}"

    @staticmethod
    def mount(*words):
        return subprocess.run(["mount", *words], capture_output=True, text=True)

    def fill(self, pages=0):
        """Shrinks the disk to what is used now, plus some pages. Has no effect if the server allocates a page at the same moment: repeat
        it until the effect is seen."""
        disk = os.statvfs(self.path)
        used = (disk.f_blocks - disk.f_bfree + pages) * disk.f_frsize
        self.mount("-o", f"remount,size={used}", self.path)

    def make_room(self):
        done = self.mount("-o", "remount,size=16g", self.path)
        assert done.returncode == 0, done.stderr

    def unmount(self):
        subprocess.run(["umount", self.path], check=True)
