"""A program in a terminal, used as a person would."""

import os
import subprocess

from client import until


class Terminal:
    """A program in a separate tmux."""

    def __init__(self, folder, *command, **env):
        self.tmux = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux")]
        env = {"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | env
        subprocess.run([*self.tmux, "new-session", "-d", "-x", "140", "-y", "40", *command], env=env, check=True)

    def type(self, line):
        subprocess.run([*self.tmux, "send-keys", "-l", line], check=True)
        subprocess.run([*self.tmux, "send-keys", "Enter"], check=True)

    def screen(self):
        return subprocess.run([*self.tmux, "capture-pane", "-p"], check=True, capture_output=True, text=True).stdout

    async def shows(self, text):
        try:
            await until(lambda: text in self.screen(), f"{text!r} on the screen", 30)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.screen()}") from None

    def close(self):
        subprocess.run([*self.tmux, "kill-server"], check=False, capture_output=True)
