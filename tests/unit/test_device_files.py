"""Device files of the NVIDIA driver: made before a process confines itself, or their lack is a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.errors import PlatformError
from node.isolation.device_files import prepare_nvidia_devices


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of a machine whose driver is loaded and that nobody has used CUDA on since it started."""
    for name in ("dev", "bin", "module/nvidia"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dev" / "nvidiactl").touch()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def install(machine: Path, does: str) -> None:
    """Install ``nvidia-modprobe`` that notes its arguments and then ``does`` something."""
    program = machine / "bin" / "nvidia-modprobe"
    program.write_text(f'#!/bin/sh\necho "$@" >> {machine}/asked\n{does}\n')
    program.chmod(0o755)


def test_the_devices_are_made_by_the_program_of_the_driver(machine: Path) -> None:
    install(machine, f": > {machine}/dev/nvidia-uvm")
    prepare_nvidia_devices(machine / "dev", machine / "module")
    prepare_nvidia_devices(machine / "dev", machine / "module")
    assert (machine / "asked").read_text() == "-c 0 -u\n", "once"


@pytest.mark.parametrize("installed", [True, False])
def test_devices_that_cannot_be_made_are_an_error_with_the_remedy(machine: Path, *, installed: bool) -> None:
    if installed:
        install(machine, "exit 1")
    with pytest.raises(PlatformError, match=r"nvidia-uvm does not exist.*run 'nvidia-modprobe -c 0 -u' as root"):
        prepare_nvidia_devices(machine / "dev", machine / "module")


def test_a_machine_without_the_driver_is_left_alone(machine: Path) -> None:
    install(machine, "")
    (machine / "module" / "nvidia").rmdir()
    prepare_nvidia_devices(machine / "dev", machine / "module")
    assert not (machine / "asked").exists()
