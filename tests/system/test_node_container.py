"""The node in a container: the shipped Containerfile, built without a registry from this machine's Python.

The packages of the test's own environment stand in for those that the image would install; the node in it is the wheel
of this checkout.
"""

from __future__ import annotations

import hashlib
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import real_peers
from containers import BOUNDS, PYTHON, Podman, add_machine, podman_of
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from receivers import until
from whole_node import configuration

from node import __version__

ROOT = Path(__file__).parents[2]
PACKAGES = "/packages/site-packages"
"""Where a container sees the packages of this environment."""
TOOLS = ("sh", "install", "ln", "rm", "sed", "grep", "groupadd", "useradd", "env", "cat")
SHARED = (
    *("libdl.so.2", "libexpat.so.1", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1"),
    *("libstdc++.so.6", "libutil.so.1", "libz.so.1"),
)
"""Libraries of the wheels that Debian has in every installation."""


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with TemporaryDirectory(prefix="podman-") as folder:
        try:
            yield podman_of(Path(folder), "overlay")
        finally:
            Podman(command=Path("podman"), folder=Path(folder)).unmount()


@pytest.fixture(scope="module")
def mounted() -> list[str]:
    return ["--volume", f"{sysconfig.get_path('purelib')}:{PACKAGES}:ro"]


@pytest.fixture(scope="module")
def image(podman: Podman, mounted: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built from the checkout."""
    folder = tmp_path_factory.mktemp("packages")
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    (site,) = (folder / ".venv" / "lib").glob("python3*/site-packages")
    if site.parent.name != Path(sysconfig.get_path("stdlib")).name:
        pytest.skip(f"the packages of this environment are not for {PYTHON}, of which the image is made")
    (site / "packages.pth").write_text(f"{PACKAGES}\n")
    base = BytesIO()
    add_machine(base, TOOLS, SHARED, {"opt/ainode/.venv": folder / ".venv"})
    podman.run("import", "-", "localhost/base:1", given=base.getvalue())
    given = ["--build-arg", "BASE=localhost/base:1", *mounted]
    file = ROOT / "systemd" / "containers" / "Containerfile"
    options = ["--format", "docker", "--layers=false", "--network", "none", *BOUNDS]
    podman.run("build", *options, *given, "--tag", "localhost/ainode:test", "--file", file, ROOT, seconds=300)
    return "localhost/ainode:test"


@contextmanager
def container(podman: Podman, image: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running container ``node`` as ``compose.yaml`` starts it."""
    shut_in = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:mode=1777"]  # noqa: S108
    command = [podman.command, "run", "--name", "node", "--network", "host", *shut_in, *BOUNDS, *options, image]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        subprocess.run([podman.command, "rm", "--force", "--time", "1", "node"], check=False, capture_output=True)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.rotating
@pytest.mark.timeout(600)
def test_the_image_is_of_this_checkout_and_serves_a_study_shut_in_and_drains(
    podman: Podman, mounted: list[str], image: str, tmp_path: Path
) -> None:
    assert podman.run("run", "--rm", "--network", "none", *BOUNDS, *mounted, image, "--version").endswith(__version__)
    port, web = real_peers.free_port(), real_peers.free_port()
    with real_peers.orthanc(tmp_path / "pacs", {"AINODE": port}) as pacs:
        text = configuration(Path("/var/lib/ainode"), port, ("ORTHANC", pacs.dicom_port))
        (tmp_path / "config.toml").write_text(f"{text}\n[web]\nenabled = true\nport = {web}\n")
        (tmp_path / "config.toml").chmod(0o644)
        volumes = [*mounted, "--volume", f"{tmp_path / 'config.toml'}:/etc/ainode/config.toml:ro"]
        volumes += ["--volume", f"{ROOT / 'tests' / 'support'}:/support:ro", "--volume", "images:/var/lib/ainode"]
        volumes += ["--env", "PYTHONPATH=/support", "--env", "OMP_NUM_THREADS=1"]
        with container(podman, image, *volumes) as process:
            until(lambda: is_healthy(podman, process), 180)
            inside = "import os, pathlib, hashlib, node.service as s; open('/tmp/made', 'w')"
            seen = "print(os.getuid(), hashlib.sha256(pathlib.Path(s.__file__).read_bytes()).hexdigest())"
            assert python(podman, f"{inside}; {seen}") == f"10104 {digest(ROOT / 'node' / 'service.py')}"
            assert "Read-only file system" in python(
                podman, "try: open('/opt/made', 'w')\nexcept OSError as e: print(e)"
            )

            real_peers.dcmtk("echoscu", "-aec", "AINODE", "127.0.0.1", port)
            series = ct_series(volume=with_lesion())
            files = write(series, tmp_path / "scan")
            real_peers.dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", port, *files)
            study = str(series[0].StudyInstanceUID)
            until(lambda: {"SEG", "SR"} <= modalities(pacs), 180)

            began = time.monotonic()
            podman.run("kill", "--signal", "TERM", "node")
            assert process.wait(90) == 0
            assert time.monotonic() - began < 60
        kept = ["run", "--rm", "--network", "none", *BOUNDS, *volumes, image, "status", "--json"]
        assert study in podman.run(*kept)


def modalities(pacs: real_peers.Orthanc) -> set[str]:
    return {series["MainDicomTags"]["Modality"] for series in pacs.get("/series?expand")}


def is_healthy(podman: Podman, process: subprocess.Popen[bytes]) -> bool:
    """Whether the health check of the image passes."""
    assert process.poll() is None, "the container has ended"
    done = subprocess.run([podman.command, "healthcheck", "run", "node"], capture_output=True, check=False)
    return done.returncode == 0


def python(podman: Podman, code: str) -> str:
    """What code in the running container prints."""
    return podman.run("exec", "node", "/opt/ainode/.venv/bin/python", "-c", code)
