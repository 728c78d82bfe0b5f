"""The shell lines of the pages do what the pages say: run as they stand, but for the port."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from certificates import Authority, tls
from dicom_files import ct_series, write
from pydicom import dcmread
from pydicom.uid import generate_uid
from receivers import Node, receiving

PAGES = [Path(__file__).parents[2] / "README.md", *sorted((Path(__file__).parents[2] / "docs").rglob("*.md"))]
BLOCKS = {
    block: page.name
    for page in PAGES
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
}


def block(begin: str) -> str:
    """The block of a page that begins with these words."""
    (content,) = [text for text in BLOCKS if text.startswith(begin)]
    return content


def run(line: str, node: Node, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of a page in ``folder``, against ``node``, with dcmtk and not the programs of pynetdicom."""
    here = line.replace("11112", str(node.port))
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    program = line.split(maxsplit=1)[0]
    if shutil.which(program, path=environment["PATH"]) is None:
        pytest.skip(f"{program} is not installed")
    return subprocess.run(
        ["sh", "-c", here], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_every_block_of_shell_lines_is_run_by_a_test() -> None:
    begins = (
        "dcmodify",
        "echoscu",
        "storescu +tls",
        "openssl s_client",
        "openssl req",  # certificates.Authority
        "sudo ainode join",  # test_join.py
    )
    assert [(page, text) for text, page in BLOCKS.items() if not text.startswith(begins)] == []
    assert len(BLOCKS) == len(begins)


def test_the_echo_of_the_page_on_connecting_is_answered(node: Node, tmp_path: Path) -> None:
    done = run(block("echoscu"), node, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_lines_about_tls_send_an_image_and_tell_which_version_is_refused(
    tmp_path: Path, authority: Authority
) -> None:
    write(ct_series()[:1], tmp_path)[0].rename(authority.folder / "image.dcm")
    with receiving(
        tmp_path / "node", ae=tls(authority, callers='{ title = "CT1", certificate = "ct1.example" }')
    ) as to:
        sent = run(block("storescu +tls"), to, authority.folder)
        assert sent.returncode == 0, sent.stderr
        old, new = (run(line, to, authority.folder) for line in block("openssl s_client").splitlines())
    assert old.returncode != 0
    assert "Protocol  : TLSv1.3" in new.stdout or "New, TLSv1.3" in new.stdout
    assert "Verify return code: 0 (ok)" in new.stdout


def test_the_line_about_frames_of_reference_gives_all_images_one(node: Node, tmp_path: Path) -> None:
    images = ct_series()[:3]
    before = {str(image.SOPInstanceUID) for image in images}
    for image in images:
        image.FrameOfReferenceUID = generate_uid()
    write(images, tmp_path)
    done = run(block("dcmodify"), node, tmp_path)
    assert done.returncode == 0, done.stderr
    after = [dcmread(path) for path in tmp_path.glob("*.dcm")]
    assert {image.FrameOfReferenceUID for image in after} == {"2.25.1234"}
    assert {image.SeriesInstanceUID for image in after} == {"2.25.5678"}
    assert len({image.SOPInstanceUID for image in after} - before) == len(images)
