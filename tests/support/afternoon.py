"""The afternoon of a new engineer as a terminal recording, and the dashboard that it ends with as a picture.

``python tests/support/afternoon.py docs/images`` configures a node with an Orthanc as its PACS, starts it, sends it a
synthetic brain MR and looks at what came of it. It writes ``afternoon.cast`` (asciinema, version 2), the
same as ``afternoon.svg`` where termtosvg is installed (``pip install termtosvg``, in an environment of its own), and
``web-afternoon.png``. Every command is really run; only waiting is shortened.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import real_peers
from every_page import PASSWORD, sign_in
from PIL import Image
from playwright.sync_api import sync_playwright

from node.demo.phantom import write_brain_flair

ROOT = Path(__file__).parents[2]
COLUMNS, ROWS = 112, 32
KEY_SECONDS, LOOK_SECONDS, LINE_SECONDS, LONGEST_SECONDS = 0.035, 1.6, 0.42, 1.2
"""Between two keys; after what a command has said, and more for each line of it; of a silence."""
WIDTH = 1440
"""Of the picture, in CSS pixels."""
PROMPT = "\x1b[1;32m$\x1b[0m "


class Recording:
    """Commands of one shell, as they are typed and answered, on a clock that no silence holds up."""

    def __init__(self, folder: Path, environment: dict[str, str], replaced: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._replaced = replaced
        self._at = 0.0
        self._lines: list[str] = []

    def say(self, text: str) -> None:
        """Show a comment."""
        self._show(f"{PROMPT}\x1b[2m# {text}\x1b[0m\r\n")
        self._at += LOOK_SECONDS

    def run(self, command: str, hidden: str = "") -> str:
        """Type a command and run it; return its output. ``hidden``: what is run in place of what is shown."""
        self._show(PROMPT)
        for key in command:
            self._at += KEY_SECONDS
            self._show(key)
        self._at += 0.3
        self._show("\r\n")
        output = self._answer(hidden or command)
        self._at += LOOK_SECONDS + LINE_SECONDS * output.count("\n")
        return output

    def _answer(self, command: str) -> str:
        process, terminal = pty.fork()
        if process == 0:
            os.chdir(self._folder)
            os.execvpe("bash", ["bash", "-c", command], self._environment)  # noqa: S606 - the commands of main
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        said, before = "", time.monotonic()
        while True:
            select.select([terminal], [], [])
            try:
                part = os.read(terminal, 65536).decode(errors="replace")
            except OSError:
                part = ""  # the terminal is closed when the last process that has it ends
            if not part:
                break
            now = time.monotonic()
            self._at += min(now - before, LONGEST_SECONDS)
            before = now
            said += part
            self._show(part)
        os.close(terminal)
        os.waitpid(process, 0)
        return said

    def _show(self, text: str) -> None:
        for secret, public in self._replaced.items():
            text = text.replace(secret, public)
        self._lines.append(json.dumps([round(self._at, 3), "o", text]))

    def write(self, path: Path, title: str) -> float:
        """Write the recording; return its seconds."""
        header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": title, "env": {"TERM": "xterm-256color"}}
        path.write_text("\n".join([json.dumps(header), *self._lines]) + "\n", encoding="utf-8")
        return self._at


def own_address() -> str:
    """The address that ``ainode init`` finds for this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


def picture(web_port: int, study: str, path: Path) -> None:
    """The page of the study, in the light scheme, with few colours."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 900}, base_url=f"http://127.0.0.1:{web_port}", color_scheme="light"
        )
        page.set_default_timeout(120_000)
        sign_in(page, "engineer")
        page.goto(f"/study/{study}")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(2000)
        page.screenshot(path=path)
        browser.close()
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def main(out: Path) -> None:
    """Write recording and picture to a folder."""
    port, web_port = real_peers.free_port(), real_peers.free_port()
    with (
        tempfile.TemporaryDirectory(prefix="afternoon-") as name,
        real_peers.orthanc(Path(name) / "pacs", {"AINODE": port, "STORESCU": 1}) as pacs,
    ):
        folder = Path(name)
        write_brain_flair(folder / "brain-mr")
        (folder / "password").write_text(PASSWORD)
        tools = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        environment = {**os.environ, "PATH": tools, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
        told = {
            str(folder): "~/ai",
            str(ROOT): "/opt/ainode",
            own_address(): "10.1.2.4",
            socket.gethostname(): "ainode1",
        }
        recording = Recording(folder, environment, told)
        recording.say("ainode is installed (pip or the Debian package). Write its configuration for this site:")
        there = f"--pacs-title ORTHANC --pacs-host 127.0.0.1 --pacs-port {pacs.dicom_port} --commitment --port {port}"
        user = "--web-user engineer --web-password-file password"
        recording.run(f"ainode init --yes --config config.toml {there} --storage data --pipelines tumor {user}")
        text = (folder / "config.toml").read_text()
        text = re.sub(r"(?m)^port = 8080 ", f"port = {web_port} ", text)
        for key, value in (("quiet_seconds", "3.0"), ("min_free_gib", "0.5")):
            text = re.sub(rf"(?m)^{key} = [0-9.]+", f"{key} = {value}", text)
        (folder / "config.toml").write_text(text)
        recording.say("Does it fit this machine and this network?")
        recording.run("ainode check")
        recording.say("Start it. (As a service: systemctl start ainode)")
        node = subprocess.Popen(
            ["ainode", "run"], cwd=folder, env=environment, stderr=(folder / "node.log").open("ab"), text=True
        )
        try:
            recording.run("ainode run 2> node.log &", "until grep -q 'node ready' node.log; do sleep 0.2; done")
            recording.say("The scanner sends a brain MR, and the PACS gets the results:")
            sent = f"storescu -aec AINODE +sd 127.0.0.1 {port} brain-mr"
            recording.run(sent, f"/usr/bin/{sent}")  # dcmtk's, not that of pynetdicom
            wait = "until ainode status | grep -q 'findings'; do sleep 2; done"
            recording.run("ainode status", f"{wait}; sleep 8; ainode status")
            study = str(pacs.get("/studies?expand")[0]["MainDicomTags"]["StudyInstanceUID"])
            recording.say("Why was this done, and what became of it?")
            recording.run(f"ainode explain {study}")
            recording.say("Is everything accounted for?")
            recording.run("ainode account")
            seconds = recording.write(out / "afternoon.cast", "From a configuration to a result in the PACS")
            print(f"{out / 'afternoon.cast'}: {seconds:.0f} s")
            if renderer := shutil.which("termtosvg"):
                subprocess.run([renderer, "render", out / "afternoon.cast", out / "afternoon.svg"], check=True)
            else:
                print("termtosvg is not installed: afternoon.svg was not written")
            picture(web_port, study, out / "web-afternoon.png")
        finally:
            node.terminate()
            node.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
