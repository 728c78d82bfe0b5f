"""Pipelines in real containers: what they get, what becomes of what they return, and how they are bounded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
import pytest
from containers import Podman, podman_of
from dicom_files import ct_series, write

from node.config import PipelineTable
from node.errors import NodeError
from node.inference.model_process import ModelProcess, TaskAborted
from node.inference.task import Reply, ResultFiles, Task
from node.inference.try_pipeline import SeriesTrial, run_trial
from node.outcome import Outcome

pytestmark = pytest.mark.timeout(300)
THRESHOLD = """
import array, json, os, struct, sys
folder = sys.argv[1] if len(sys.argv) > 1 else "/output"
with open("/input/image.nii", "rb") as file:
    data = file.read()
settings = json.load(open("/input/task.json"))["settings"]
offset = int(struct.unpack_from("<f", data, 108)[0])
voxels = array.array("f", data[offset:])
labels = bytes(1 if value > settings["threshold_hu"] else 0 for value in voxels)
header = bytearray(data[:offset])
struct.pack_into("<hh", header, 70, 2, 8)
if settings.get("shift_mm"):
    struct.pack_into("<f", header, 280 + 12, struct.unpack_from("<f", header, 280 + 12)[0] + settings["shift_mm"])
open("/output/labels.nii", "wb").write(bytes(header) + labels)
json.dump({"share": sum(labels) / len(labels), "score": {"bright": 0.9}}, open("/output/result.json", "w"))
print("labels written by user", os.getuid())
"""
PROBE = """
import json, os, socket, subprocess, sys, time
told = {}
def trying(name, work):
    try:
        work()
        told[name] = 1
    except BaseException as error:
        told[name] = 0
def forks():
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
what = sys.argv[1]
trying("writes its root", lambda: open("/made", "w"))
trying("writes its input", lambda: open("/input/made", "w"))
trying("writes temporary files", lambda: open("/tmp/made", "w"))
trying("fills temporary files", lambda: open("/tmp/made", "wb").write(bytes(200 << 20)))
os.path.exists("/tmp/made") and os.remove("/tmp/made")
trying("reaches a network", lambda: socket.create_connection(("192.0.2.1", 80), 1))
told["interfaces"] = len(socket.if_nameindex())
told["is told of a proxy"] = int("https_proxy" in os.environ)
trying("becomes root", lambda: os.setuid(0))
trying("sees the machine", lambda: os.listdir("/var/lib/ainode") if os.path.exists("/var/lib/ainode") else 1 / 0)
if what == "forks":
    trying("starts 200 processes", forks)
if what == "memory":
    bytearray(2 << 30)
if what == "hangs":
    print("hangs", flush=True)
    time.sleep(600)
if what == "prints":
    sys.stdout.write("x" * (8 << 20))
if what == "fails":
    sys.exit("the licence has expired")
json.dump(told, open("/output/result.json", "w"))
print(json.dumps(told))
"""
COPY = """
import json, os, shutil, sys
given, made = (os.environ[name] for name in sys.argv[1:3])
names = sorted(os.listdir(given))
task = json.load(open(os.path.join(given, "task.json")))
assert sum(name.endswith(".dcm") for name in names) == 6, names
assert task["process"]["settings"]["threshold_hu"] == 300
assert all("#" in name for name in names if name.endswith(".dcm"))
for name in os.listdir("/results"):
    shutil.copyfile(os.path.join("/results", name), os.path.join(made, name))
"""
MASKED = """
import array, hashlib, json, os, struct
given, made = os.environ["MERCURE_IN_DIR"], os.environ["MERCURE_OUT_DIR"]
(mask,) = json.load(open(os.path.join(given, "task.json")))["masks"]
names = [name for name in os.listdir(given) if name.endswith(".dcm")]
told = {"images": len([n for n in names if n != mask["file"]]), "segmentations": names.count(mask["file"])}
data = open(os.path.join(given, mask["file"]), "rb").read()
if mask["file"].endswith(".nii"):
    voxels = array.array("f", data[int(struct.unpack_from("<f", data, 108)[0]):])
    told["voxels"] = sum(value > 0 for value in voxels)
else:
    told |= {"segment": mask["segment_number"], "sha256": hashlib.sha256(data).hexdigest()}
json.dump({"share": 0.5}, open(os.path.join(made, "result.json"), "w"))
print(json.dumps(told))
"""
OPTIONS = {
    "name": "Bright", "version": "1", "modality": "CT", "labels": {"1": "spleen"}, "settings": {"threshold_hu": 300},
    "measurements": [{"key": "share", "name": ["X", "99TEST", "Share"], "unit": "1"}],
    "classes": [{"key": "score.bright", "finding": ["Y", "99TEST", "Bright"], "present_from": 0.5,
                 "absent_below": 0.2}],
}  # fmt: skip
RUN = {"memory_gib": 0.5, "temporary_gib": 0.1, "pids": 64, "cpus": 1}


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    # podman takes no state below a folder of more than 50 characters, as the workers of a parallel run have.
    with TemporaryDirectory(prefix="podman-") as folder:
        yield podman_of(Path(folder))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    series = ct_series(n=6, size=24)
    for number, image in enumerate(series):
        pixels = image.pixel_array.copy()
        pixels[4:9, 6 + number] = 800 - int(image.RescaleIntercept)
        image.PixelData = pixels.tobytes()
    write(series, folder)
    return folder


@pytest.fixture(scope="module")
def threshold(podman: Podman) -> str:
    return podman.image("threshold", {"/model.py": THRESHOLD.encode()}, ["/bin/python3", "/model.py"])


def table_of(podman: Podman, factory: str, run: dict[str, object] | None, options: dict[str, object]) -> PipelineTable:
    bounds = {**RUN, "engine": str(podman.command), **(run or {})}
    return PipelineTable(factory=factory, options={**OPTIONS, **options, "run": bounds})


def tried(podman, factory, images, out, run=None, **options) -> SeriesTrial:
    table = table_of(podman, factory, run, options)
    return run_trial("bright", table, images, out, device="cpu", progress=lambda *_: None).series[0]


def containers(podman: Podman) -> str:
    return podman.run("ps", "-a", "--format", "{{.Names}}")


def test_the_container_of_the_documentation_gets_the_voxels_and_makes_a_segmentation(podman, images, tmp_path, caplog):
    caplog.set_level("INFO")
    page = (Path(__file__).parents[2] / "docs" / "containers.md").read_text()
    (model,), (text,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "toml"))
    options = tomllib.loads(text)["pipelines"]["bright"]["options"]
    script = f"{model}import os\nprint('labels written by user', os.getuid())\n".encode()
    factory = podman.image("documented", {"/model.py": script}, ["/bin/python3", "/model.py"])
    bounds = {**options.pop("run"), **RUN}
    result = tried(podman, factory, images, tmp_path, bounds, **{"classes": [], **options})
    assert (result.outcome, result.fault) == (Outcome.MEASURED, "")
    (path,) = [path for path in result.files if path.stem.endswith("seg")]
    segmentation = pydicom.dcmread(path)
    assert segmentation.PatientID == "TEST-1"
    by_slice = sorted(int(frame.sum()) for frame in segmentation.pixel_array)
    sources = [pydicom.dcmread(path) for path in sorted(images.iterdir())]
    wanted = sorted(int((source.pixel_array + source.RescaleIntercept > 300).sum()) for source in sources)
    assert by_slice == wanted
    assert "Share" in " ".join(result.measured)
    user = "labels written by user "
    said = next(line for line in caplog.messages if user in line)
    assert said.rpartition(user)[2] != "0"
    assert containers(podman) == ""


@pytest.fixture(scope="module")
def probe(podman: Podman) -> str:
    return podman.image("probe", {"/model.py": PROBE.encode()}, ["/bin/python3", "/model.py"])


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelProcess]:
    worker = ModelProcess("cpu", 1, 240.0, tmp_path_factory.mktemp("sandboxes"), exchange=True)
    yield worker
    worker.close()


def run(worker, podman, factory, images, out, *, how=None, **options) -> Reply:
    table = table_of(podman, factory, how, options)
    paths = tuple(images.iterdir())
    return worker.run(Task(job_id="j", pipeline="bright", table=table, paths=paths, folder=out), lambda: True)


def fault(worker, podman, *given, **options) -> str:
    with pytest.raises(NodeError) as error:
        run(worker, podman, *given, **options)
    assert containers(podman) == ""
    return str(error.value)


def test_a_container_has_no_network_no_writable_root_and_few_processes(podman, probe, images, tmp_path, caplog):
    caplog.set_level("INFO")
    keys = [{"key": "interfaces", "name": ["X", "99TEST", "Interfaces"], "unit": "1"}]
    options = {"labels": {}, "classes": [], "measurements": keys}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("https_proxy", "http://user:secret@192.0.2.1:8080")
        result = tried(podman, probe, images, tmp_path, {"command": ["forks"]}, **options)
    assert (result.outcome, result.fault) == (Outcome.MEASURED, "")
    told = next(line for line in caplog.messages if "interfaces" in line)
    assert json.loads(told[told.index("{") :]) == {
        "writes its root": 0, "writes its input": 0, "writes temporary files": 1, "fills temporary files": 0,
        "reaches a network": 0, "interfaces": 1, "is told of a proxy": 0, "becomes root": 0, "sees the machine": 0,
        "starts 200 processes": 0,
    }  # fmt: skip


def test_a_container_is_killed_at_its_limits_and_says_why(podman, probe, images, worker, tmp_path):
    given = (worker, podman, probe, images, tmp_path)
    began = time.monotonic()
    assert "ran longer than run.seconds = 3 and was killed" in fault(*given, how={"command": ["hangs"], "seconds": 3})
    assert time.monotonic() - began < 60
    assert "status 137, killed, most often for lack of memory (run.memory_gib = 0.5)" in fault(
        *given, how={"command": ["memory"]}
    )
    assert "ended with status 1: the licence has expired" in fault(*given, how={"command": ["fails"]})
    assert "wrote no label map" in fault(*given, how={"command": ["prints"]})
    with pytest.raises(TaskAborted):
        worker.run(
            Task(
                job_id="j", pipeline="bright", paths=tuple(images.iterdir()), folder=tmp_path,
                table=table_of(podman, probe, {"command": ["hangs"]}, {}),
            ),
            lambda: not containers(podman),
        )  # fmt: skip
    assert containers(podman) == ""


def test_a_label_map_elsewhere_is_refused_with_the_reason(podman, threshold, images, worker, tmp_path):
    given = (worker, podman, threshold, images, tmp_path)
    moved, far = ({"threshold_hu": 300, "shift_mm": mm} for mm in (1.5, 900.0))
    assert "not on the voxels of the images" in fault(*given, settings=moved)
    assert "outlines something outside of the images" in fault(*given, settings=far, grid="any")


@pytest.fixture(scope="module")
def objects(podman: Podman, threshold: str, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    result = tried(podman, threshold, images, tmp_path_factory.mktemp("objects"))
    return {path.stem.partition("-")[2]: path for path in result.files}


def test_dicom_objects_of_a_container_become_ours(podman, objects, images, worker, tmp_path):
    given = {f"/results/{kind}.dcm": objects[kind].read_bytes() for kind in ("seg", "sr")}
    files = {"/model.py": COPY.encode(), "/etc/holoscan/app.json": b'{"command": "python3 /model.py"}', **given}
    factory = podman.image("copies", files, ["/bin/python3", "/model.py"])
    mercure = {"contract": "mercure", "labels": {}, "classes": [], "measurements": []}
    of_mercure = {"command": ["MERCURE_IN_DIR", "MERCURE_OUT_DIR"]}
    result = tried(podman, factory, images, tmp_path, of_mercure, **mercure)
    assert (result.outcome, result.fault) == (Outcome.FINDINGS, "")
    again = {path.stem.partition("-")[2]: pydicom.dcmread(path) for path in result.files}
    first = pydicom.dcmread(objects["seg"])
    assert np.array_equal(again["seg"].pixel_array, first.pixel_array)
    assert again["seg"].SOPInstanceUID != first.SOPInstanceUID
    assert "Share" in " ".join(result.measured)
    package = {**mercure, "contract": "map"}
    of_package = {"command": ["HOLOSCAN_INPUT_PATH", "MONAI_OUTPUTPATH"]}
    assert run(worker, podman, factory, images, tmp_path / "map", how=of_package, **package).outcome == Outcome.FINDINGS
    other = tmp_path / "other"
    write(ct_series(n=6, size=24), other)
    assert " is about study " in fault(worker, podman, factory, other, tmp_path, how=of_mercure, **mercure)


def test_a_container_of_dicom_files_gets_the_segmentation_of_an_earlier_pipeline(  # noqa: PLR0917 - fixtures
    podman, objects, images, worker, tmp_path, caplog
):
    caplog.set_level("INFO")
    factory = podman.image("masked", {"/model.py": MASKED.encode()}, ["/bin/python3", "/model.py"])
    organ = ResultFiles(described_by=objects["seg"], segmentation=objects["seg"])
    told = {}
    for masks in ("dicom", "nifti"):
        keys = {"labels": {}, "classes": [], "inputs": ["organ:spleen"], "masks": masks}
        table = table_of(podman, factory, None, {"contract": "mercure", **keys})
        task = Task(
            job_id="j", pipeline="tumor", table=table, paths=tuple(images.iterdir()), folder=tmp_path / masks,
            results={"organ": organ},
        )  # fmt: skip
        assert worker.run(task, lambda: True).outcome == Outcome.MEASURED
        line = next(line for line in reversed(caplog.messages) if '"images"' in line)
        told[masks] = json.loads(line[line.index("{") :])
    digest = hashlib.sha256(objects["seg"].read_bytes()).hexdigest()
    assert told["dicom"] == {"images": 6, "segmentations": 1, "segment": 1, "sha256": digest}
    voxels = int(pydicom.dcmread(objects["seg"]).pixel_array.sum())
    assert told["nifti"] == {"images": 6, "segmentations": 0, "voxels": voxels}


def test_what_a_container_lacks_is_said_in_one_sentence(podman, threshold, images, worker, tmp_path):
    other = threshold.replace(threshold[-8:], "0" * 8)
    assert "has sha256:" in fault(worker, podman, other, images, tmp_path)
    absent = other.replace("threshold", "absent")
    assert "is not on this machine; bring it with" in fault(worker, podman, absent, images, tmp_path)
    assert "runs a container, and noengine is not installed here; install podman" in fault(
        worker, podman, threshold, images, tmp_path, how={"engine": "noengine"}
    )
    assert "run.memory = 3: Extra inputs" in fault(worker, podman, threshold, images, tmp_path, how={"memory": 3})
    assert "no MONAI Application Package" in fault(
        worker, podman, threshold, images, tmp_path, contract="map", labels={}
    )


def test_a_container_whose_worker_died_is_removed_by_the_next_one(podman, threshold, images, tmp_path):
    from node.outside.container_engine import ContainerEngine, container_name

    mine = container_name("x")
    dead = mine.replace(f"-{os.getpid()}-", "-4194303-")
    for name in (mine, dead):
        podman.run("create", "--name", name, "--network=none", "localhost/threshold:1")
    ContainerEngine("bright", str(podman.command)).sweep()
    assert containers(podman) == mine
    podman.run("rm", mine)
