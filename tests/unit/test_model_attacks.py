"""Models whose names, folders and zip files are made to reach further than the models folder, or to fill the disk."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from bundles import write_bundle
from click.testing import CliRunner

from node.__main__ import main
from node.config import PipelineTable, parse
from node.errors import ConfigError, InputError, WeightsError
from node.inference import model_store
from node.pipeline import content_digest, model_content
from pipelines.pinned import pinned_folder

MARKER = "configs/metadata.json"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "from" / "spleen_ct")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage folder with a file that nobody may touch, beside and above the models."""
    folder = tmp_path / "node"
    (folder / "models").mkdir(parents=True)
    (folder / "ledger.sqlite").write_text("ledger")
    return folder


class Keeper:
    """Who holds an unpacked model."""


def entries(folder: Path) -> list[str]:
    """All but the folder for drafts, which may stay while nothing is in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".drafts")


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/x",
        "a/b",
        "..",
        ".",
        "",
        ".hidden",
        "a\nb",
        'a]\nfactory = "os:system"',
        "a\0b",
        "a b",
        "x" * 65,
    ],
)
def test_a_name_is_a_name_and_no_path(bundle, storage, name):
    before = entries(storage.parent)
    with pytest.raises(ConfigError, match="--name"):
        model_store.add(str(bundle), storage, sha256=None, name=name)
    assert entries(storage.parent) == before


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["spleen_ct_v0.5.3", "spleen ct [new]", "..x"])
def test_a_file_name_becomes_a_name_that_the_printed_table_can_have(bundle, storage, name):
    packed = Path(shutil.make_archive(str(bundle), "zip", bundle))
    source = packed.with_name(f"{name}.zip")
    packed.rename(source)
    config = storage.parent / "config.toml"
    config.write_text(f'[storage]\nfolder = "{storage}"\n')
    printed = CliRunner().invoke(main, ["models", "add", str(source), "--config", str(config)], catch_exceptions=False)
    (table,) = parse(printed.output[printed.output.index("[pipelines") :]).pipelines.values()
    assert table.weights is not None
    assert table.weights.parent == storage / "models"


@pytest.mark.parametrize("tail", ["%2e%2e", "..", ".", "%2e%2e%2fx.zip", "a.zip/..", ""])
def test_the_end_of_an_address_is_no_path(storage, tail):
    before = entries(storage)
    with pytest.raises((ConfigError, InputError)):
        model_store.add(f"http://127.0.0.1:9/{tail}", storage, sha256="0" * 64, name=None)
    assert entries(storage) == before


def _symbolic_file(place: Path) -> None:
    place.symlink_to("/etc/passwd")


def _symbolic_folder(place: Path) -> None:
    place.symlink_to("/etc")


def _circle(place: Path) -> None:
    place.symlink_to(place.parent)


def _hard_link(place: Path) -> None:
    secret = place.parents[3] / "secret"
    secret.write_text("secret")
    os.link(secret, place)


def _pipe(place: Path) -> None:
    os.mkfifo(place)


def _socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        descriptor = os.open(place.parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{descriptor}/{place.name}")
        os.close(descriptor)


def _device(place: Path) -> None:
    try:
        os.mknod(place, 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


ENTRIES = [_symbolic_file, _symbolic_folder, _circle, _hard_link, _pipe, _socket, _device]


@pytest.mark.parametrize("lay", ENTRIES)
def test_a_folder_with_anything_but_files_of_its_own_is_not_added(bundle, storage, lay: Callable[[Path], None]):
    lay(bundle / "models" / "odd")
    before = entries(storage)
    with pytest.raises(WeightsError, match="odd"):
        model_store.add(str(bundle), storage, sha256=None, name=None)
    assert entries(storage) == before


@pytest.mark.parametrize("lay", [entry for entry in ENTRIES if entry != _hard_link])
def test_a_pinned_folder_holds_nothing_that_its_digest_does_not_cover(bundle, lay: Callable[[Path], None]):
    lay(bundle / "models" / "odd")
    with pytest.raises(WeightsError, match="odd"):
        pinned_folder(bundle, content_digest(bundle), MARKER, bundle)


@pytest.mark.parametrize("source", ["/dev/zero", "pipe"])
def test_a_source_that_is_no_file_is_not_read(storage, tmp_path, source):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        model_store.add(str(tmp_path / source), storage, sha256=None, name="x")


def test_a_folder_of_too_many_files_or_levels_or_bytes_is_not_added(bundle, storage, monkeypatch):
    before = entries(storage)
    with (bundle / "models" / "huge.bin").open("wb") as file:
        file.truncate(model_content.MOST_BYTES)
    with pytest.raises(WeightsError, match="GiB"):
        model_store.add(str(bundle), storage, sha256=None, name=None)
    (bundle / "models" / "huge.bin").unlink()
    deep = bundle.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    with pytest.raises(WeightsError, match="levels"):
        model_store.add(str(bundle), storage, sha256=None, name=None)
    shutil.rmtree(bundle / "d")
    monkeypatch.setattr(model_content, "MOST_FILES", 20)
    for number in range(30):
        (bundle / f"{number}").touch()
    with pytest.raises(WeightsError, match="files"):
        model_store.add(str(bundle), storage, sha256=None, name=None)
    assert entries(storage) == before


def _zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(MARKER, "{}")
        for name, content in members:
            archive.writestr(name, content)
    return path


def _link_member(path: Path) -> Path:
    link = zipfile.ZipInfo("models/odd")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    return _zip(path, (link, b"/etc/passwd"))


def _twice(path: Path) -> Path:
    with pytest.warns(UserWarning, match="Duplicate"):
        return _zip(path, ("odd", b"1"), ("odd", b"2"))


def _states(path: Path, size: int) -> Path:
    """A member whose entry in the directory states another size than its bytes have."""
    content = _zip(path, ("odd", bytes(1000))).read_bytes()
    start = content.rindex(b"PK\1\2")
    path.write_bytes(content[: start + 24] + struct.pack("<L", size) + content[start + 28 :])
    return path


def _ratio(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MARKER, "{}")
        with archive.open(zipfile.ZipInfo("odd"), "w", force_zip64=True):
            pass
        info = archive.getinfo("odd")
        info.compress_size, info.file_size = 10 << 20, 9 << 30
    return path


ZIPS: dict[str, Callable[[Path], Path]] = {
    "climbs": lambda path: _zip(path, ("../../odd", b"1")),
    "absolute": lambda path: _zip(path, ("/tmp/odd", b"1")),  # noqa: S108
    "climbs inside": lambda path: _zip(path, ("a/../../odd", b"1")),
    "backslashes": lambda path: _zip(path, ("..\\..\\odd", b"1")),
    "link": _link_member,
    "twice": _twice,
    "file and folder": lambda path: _zip(path, ("odd", b"1"), ("odd/inner", b"2")),
    "nested": lambda path: _zip(path, ("/".join(["d"] * 40 + ["odd"]), b"1")),
    "huge": lambda path: _states(path, 0xFFFFFFFE),
    "longer than it says": lambda path: _states(path, 10),
    "ratio": _ratio,
    "lzma": lambda path: _zip(path, ("odd", b"1"), method=zipfile.ZIP_LZMA),
    "long name": lambda path: _zip(path, ("x" * 5000, b"1")),
    "many": lambda path: _zip(path, *((f"d/{number}", b"") for number in range(model_content.MOST_FILES + 1))),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_a_zip_that_reaches_out_or_inflates_without_end_is_not_unpacked(kind, tmp_path, monkeypatch):
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "unpacked"))
    if kind == "huge":
        monkeypatch.setattr(model_content, "MOST_BYTES", 4 << 30)
    path = ZIPS[kind](tmp_path / "model.zip")
    before = entries(tmp_path)
    with pytest.raises(WeightsError, match=r"model\.zip"):
        pinned_folder(path, content_digest(path), MARKER, Keeper())
    assert entries(tmp_path) == before, "nothing stays, also of the first members"


@pytest.mark.parametrize("kind", [kind for kind in ZIPS if "than it says" not in kind])
def test_such_a_zip_is_not_added(kind, storage, tmp_path, monkeypatch):
    if kind == "huge":
        monkeypatch.setattr(model_content, "MOST_BYTES", 4 << 30)
    path = ZIPS[kind](tmp_path / "model.zip")
    before = entries(storage)
    with pytest.raises(WeightsError, match=r"model\.zip"):
        model_store.add(str(path), storage, sha256=None, name=None)
    assert entries(storage) == before


def test_a_directory_of_millions_of_members_is_not_read(tmp_path):
    path = _zip(tmp_path / "model.zip")
    content = path.read_bytes()
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry = content[start:end]
    entries_ = entry * (1 + model_content.DIRECTORY_BYTES // len(entry))
    tail = content[end : end + 12] + struct.pack("<LLH", len(entries_), start, 0)
    path.write_bytes(content[:start] + entries_ + tail)
    with pytest.raises(WeightsError, match="directory"):
        pinned_folder(path, content_digest(path), MARKER, Keeper())


def test_an_endless_download_ends(storage, monkeypatch):
    monkeypatch.setattr(model_content, "MOST_BYTES", 1 << 20)

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(ConnectionError):
                while True:
                    self.wfile.write(bytes(1 << 16))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        before = entries(storage)
        with pytest.raises(WeightsError, match="GiB"):
            model_store.add(f"http://127.0.0.1:{server.server_port}/m.zip", storage, sha256="0" * 64, name=None)
        server.shutdown()
    assert entries(storage) == before


@pytest.mark.thorough
def test_what_a_killed_command_left_goes_with_the_next_one(bundle, storage):
    script = (
        "import sys, os, shutil; from node.inference import model_store; from pathlib import Path\n"
        "model_store.content_digest = lambda path: os.kill(os.getpid(), 9)\n"
        f"model_store.add({str(bundle)!r}, Path({str(storage)!r}), sha256=None, name=None)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert any(path.endswith("metadata.json") for path in entries(storage))
    model_store.add(str(bundle), storage, sha256=None, name="other")
    assert [path for path in entries(storage / "models") if path.endswith("metadata.json")] == [f"other/{MARKER}"]


def test_modes_and_owners_of_an_authors_files_are_not_taken_over(bundle, storage):
    (bundle / MARKER).chmod(0o6777)
    added = model_store.add(str(bundle), storage, sha256=None, name=None).path
    assert (added / MARKER).stat().st_mode & 0o7022 == 0


def test_a_card_shows_no_file_that_a_bundle_links_to(bundle, tmp_path):
    (tmp_path / "secret").write_text("secret of the node")
    (bundle / "docs").mkdir(exist_ok=True)
    readme = bundle / "docs" / "README.md"
    readme.unlink(missing_ok=True)
    readme.symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match=r"README\.md"):
        model_store.card("spleen", PipelineTable(weights=bundle))
