"""The build of PyTorch and the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.pytorch_build import CPU_INDEX, build_advice, has_nvidia_gpu


@pytest.mark.parametrize(
    ("vendor", "kind", "expected"),
    [
        ("0x10de", "0x030200", True),
        ("0x10de", "0x030000", True),
        ("0x10de", "0x040300", False),  # its sound device
        ("0x1002", "0x030000", False),  # AMD
    ],
)
def test_a_card_is_seen_without_its_driver(tmp_path: Path, vendor: str, kind: str, expected: bool):  # noqa: FBT001
    device = tmp_path / "0000:01:00.0"
    device.mkdir()
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")
    assert has_nvidia_gpu(tmp_path) == expected


def test_a_machine_without_pci_has_none(tmp_path: Path):
    assert not has_nvidia_gpu(tmp_path / "none")


@pytest.mark.parametrize(
    ("version", "cuda", "has_gpu", "line"),
    [
        ("2.13.0+cpu", None, True, "pip install --force-reinstall torch==2.13.0"),
        ("2.13.0+cu130", "13.0", False, f"pip install torch==2.13.0 --index-url {CPU_INDEX}"),
    ],
)
def test_a_build_that_does_not_suit_the_machine_is_named_with_the_line(
    version: str,
    cuda: str | None,
    has_gpu: bool,  # noqa: FBT001
    line: str,
):
    assert build_advice(version, cuda, has_gpu=has_gpu).endswith(line)


@pytest.mark.parametrize(("version", "cuda", "has_gpu"), [("2.13.0+cpu", None, False), ("2.13.0", "13.0", True)])
def test_a_build_that_suits_the_machine_needs_no_line(version: str, cuda: str | None, has_gpu: bool):  # noqa: FBT001
    assert build_advice(version, cuda, has_gpu=has_gpu) == ""


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_the_pages_name_the_version_and_the_index_that_are_used(page: str):
    folder = Path(__file__).parents[2]
    (pinned,) = [line for line in (folder / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    assert f"pip install {pinned} --index-url {CPU_INDEX}" in (folder / page).read_text()
    assert CPU_INDEX in (folder / "Makefile").read_text()
