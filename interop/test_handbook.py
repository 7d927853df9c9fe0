"""The server accepts the configuration examples of the handbook."""

import os
import re
import subprocess

import pytest

from server import BINARY, ROOT

PAGE = ROOT / "docs" / "handbook" / "hardening.md"
# Each complete example is named by its first line.
EXAMPLES = re.findall(r"^```toml\n(# .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_there_are_settings_for_three_machines():
    assert [example.split()[1] for example in EXAMPLES] == ["1", "4", "16"]


FIRST_HOUR, OPERATING, TLS = [(PAGE.parent / name).read_text() for name in ("first-hour.md", "operating.md", "tls.md")]


def test_the_service_is_installed_from_files_of_the_sources_before_it_is_used():
    page = FIRST_HOUR
    installed = re.findall(r"^ *install -D -m \d+ (\S+) (\S+)$", page, re.MULTILINE)
    of = {source: place for source, place in installed}
    assert set(of) == {"target/release/vorpal"} | {f"contrib/systemd/{name}" for name in ("vorpal.service", "sysusers.conf", "tmpfiles.conf")}
    assert all((ROOT / source).is_file() for source in of if source.startswith("contrib/"))
    # What the files say of each other is where they are installed.
    unit = (ROOT / "contrib/systemd/vorpal.service").read_text()
    assert f"ExecStart={of['target/release/vorpal']} " in unit
    steps = [f"systemd-sysusers {of['contrib/systemd/sysusers.conf']}", f"systemd-tmpfiles --create {of['contrib/systemd/tmpfiles.conf']}"]
    steps += ["certbot certonly", "runuser -u vorpal -- vorpal config check", "systemctl enable --now vorpal\n"]
    places = [page.index(step) for step in steps]
    assert places == sorted(places)


def test_the_hook_of_the_first_hour_is_that_of_tls():
    hook = r"certbot certonly (.*?fi')$"
    first, again = [re.findall(hook, page, re.MULTILINE | re.DOTALL) for page in (FIRST_HOUR, TLS)]
    flat = lambda found: [" ".join(hook.split()) for hook in found]
    assert len(first) == 1 and flat(first) == flat(again)


def test_the_program_is_built_alone_and_no_block_of_commands_runs_all_tests_beside_it():
    readme = (ROOT / "README.md").read_text()
    for page in (readme, FIRST_HOUR):
        blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        started = [block for block in blocks if re.search(r"\bvorpal serve\b", block)]
        assert started and all("cargo build --release -p vorpal " in started[0] and "./test" not in block for block in started)
    # Whoever runs them all is told before what they do to the machine, and how long they take.
    told = readme[readme.index("`./test` is for developers"):].split("\n\n")[0]
    assert all(word in told for word in ("minutes", "installs packages", "mounts", "root"))


def test_a_message_that_is_seen_twice_is_found_in_these_words():
    assert "can be seen twice after a crash" in (PAGE.parent / "promises.md").read_text()
    assert "[the archive](archive.md)" in (PAGE.parent / "troubleshooting.md").read_text()


def test_data_are_copied_only_while_no_server_can_use_them():
    pages = (PAGE.read_text(), (PAGE.parent / "operating.md").read_text())
    recipes = [block for page in pages for block in re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
    # SQLite copies the database of a running server, and nothing else does.
    of_running = [block for block in recipes if "VACUUM INTO" in block]
    assert len(of_running) == 1 and not re.search(r"\b(cp|tar|rsync)\b.*vorpal\.db", "".join(recipes))
    copies = [block for block in recipes if block not in of_running and re.search(r"\b(cp -a|tar -C) /var/", block)]
    assert len(copies) == 3
    for block in copies:
        # A socket that is left would start the server again for the next client.
        assert block.startswith("systemctl stop vorpal.socket vorpal"), block
        assert "systemctl start vorpal.socket vorpal\n" in block
        assert "is-active" in block or "mv /var/lib/vorpal " in block


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_the_settings_for_each_machine_are_accepted(tmp_path, example):
    file = tmp_path / "vorpal.toml"
    file.write_text(example.replace("/var/lib/vorpal", str(tmp_path / "data")))
    env = {key: value for key, value in os.environ.items() if not key.startswith("VORPAL_")}
    checked = subprocess.run([BINARY, "-c", str(file), "config", "check"], capture_output=True, text=True, timeout=30, env=env)
    assert checked.returncode == 0, checked.stdout + checked.stderr
