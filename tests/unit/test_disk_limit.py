"""What the folder of a model may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.errors import PipelineError
from node.inference import disk_limit
from node.inference.disk_limit import FolderWatch, excess


def test_bytes_entries_and_levels_are_bounded_and_links_are_not_followed(tmp_path: Path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights").write_bytes(bytes(1 << 20))
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert excess(tmp_path) == ""
    with monkeypatch.context() as patch:
        patch.setattr(disk_limit, "MOST_BYTES", 1 << 19)
        assert excess(tmp_path) == "more than 0 GiB"
    with monkeypatch.context() as patch:
        patch.setattr(disk_limit, "MOST_ENTRIES", 3)
        assert excess(tmp_path) == "more than 3 files and folders"
    deep = tmp_path.joinpath(*"d" * 80)
    deep.mkdir(parents=True)
    assert "levels" in excess(tmp_path)


def test_a_file_that_only_states_a_size_takes_none(tmp_path: Path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert excess(tmp_path) == ""
    assert excess(tmp_path / "nowhere") == ""


def test_a_watch_looks_now_and_then_and_names_the_pipeline(tmp_path: Path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(disk_limit.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(disk_limit, "MOST_ENTRIES", 1)
    watch = FolderWatch([tmp_path])
    for name in ("one", "two"):
        (tmp_path / name).touch()
    watch.look("pipeline 'x'")
    clock[0] += 2.5
    with pytest.raises(PipelineError, match="pipeline 'x' wrote more than 1 files"):
        watch.look("pipeline 'x'")
