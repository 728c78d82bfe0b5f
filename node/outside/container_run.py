"""One run of a container: no network, nothing of the machine but two folders, bounded, and killed in time."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from node.confined.output import ChildOutput
from node.errors import PipelineError
from node.outside.container_engine import ContainerEngine, container_name, last_line
from node.outside.exchange import Exchange
from node.outside.limits import ContainerLimits, Contract

_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 30
"""An engine that has a limit of its own ends the container this long after ours, for a worker that has died."""
_ULIMITS = (("nofile", resource.RLIMIT_NOFILE, 65536), ("nproc", resource.RLIMIT_NPROC, 32768))
"""Not above those of the worker: the engine may not be allowed to raise them."""
_KILLED = 137
_TEMPORARY = ("/tmp", "/var/tmp", "/run")  # noqa: S108 - of the container

FOLDERS: Mapping[Contract, tuple[str, str]] = {
    "plain": ("/input", "/output"),
    "mercure": ("/tmp/data", "/tmp/output"),  # noqa: S108 - mercure, app/process/process_series.py
    "map": ("/var/holoscan/input", "/var/holoscan/output"),
}
"""Where a container of each contract finds its images and leaves its results."""


@dataclass(frozen=True, kw_only=True)
class ContainerRun:
    """What is run, and within which bounds."""

    pipeline: str
    image_id: str
    contract: Contract
    limits: ContainerLimits
    device: str
    threads: int
    seconds: float
    """Longest run."""
    rootless: bool


def run_container(
    engine: ContainerEngine, run: ContainerRun, exchange: Exchange, output: ChildOutput, look: Callable[[], None]
) -> None:
    """Run a container to its end. ``look``, which may raise, is called about every half second.

    However this ends, the container is gone. Raises ``PipelineError`` when it fails or runs too long, and what ``look``
    raises. What it prints goes to ``output``.
    """
    name = container_name(uuid.uuid4().hex[:12])
    words = [*engine.words, *arguments(run, exchange, name, is_podman=engine.is_podman)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    tail: list[bytes] = []
    reader = threading.Thread(target=_log, args=(process.stdout, output, tail), name="container", daemon=True)
    reader.start()
    deadline = time.monotonic() + run.seconds
    ended = False
    try:
        while not ended:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
                ended = True
            if not ended:
                look()
            if not ended and time.monotonic() > deadline:
                raise PipelineError(
                    f"the container of pipeline {run.pipeline!r} ran longer than run.seconds = {run.seconds:g} and was "
                    "killed"
                )
        reader.join(_GRACE_SECONDS)
    finally:
        if not ended:
            engine.remove(name)
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise PipelineError(_failure(run, process.returncode, last_line(b"".join(tail))))


def arguments(run: ContainerRun, exchange: Exchange, name: str, *, is_podman: bool) -> Iterator[str]:
    """The command line after the engine."""
    limits = run.limits
    inputs, outputs = FOLDERS[run.contract]
    owner = exchange.outputs.stat().st_uid
    user = f"{owner}:{owner}" if owner and not run.rootless else "0:0"
    yield from ("run", "--rm", f"--name={name}", "--pull=never", "--network=none", "--read-only")
    yield from ("--cap-drop=all", "--security-opt=no-new-privileges", f"--user={user}", "--log-driver=none")
    if is_podman:
        # podman gives a container the variables of proxies of its caller, which may name a password
        yield from ("--http-proxy=false", "--read-only-tmpfs=false", f"--timeout={int(run.seconds + _GRACE_SECONDS)}")
    memory = f"{int(limits.memory_gib * 1024)}m"
    yield from (f"--memory={memory}", f"--memory-swap={memory}", f"--pids-limit={limits.pids}")
    yield from (f"--cpus={limits.cpus or run.threads:g}", f"--shm-size={int(limits.shared_memory_gib * 1024)}m")
    yield "--ulimit=core=0:0"
    for kind, number, most in _ULIMITS:
        hard = resource.getrlimit(number)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        yield f"--ulimit={kind}={bound}:{bound}"
    temporary = f"rw,exec,nosuid,nodev,mode=1777,size={int(limits.temporary_gib * 1024)}m"
    for folder in (*_TEMPORARY, *limits.writable):
        yield f"--tmpfs={folder}:{temporary}"
    yield f"--volume={exchange.inputs}:{inputs}:ro,Z"
    yield f"--volume={exchange.outputs}:{outputs}:rw,Z"
    if run.device.startswith("cuda"):
        yield f"--device=nvidia.com/gpu={gpu_of(run.device)}"
    for variable, value in _environment(run).items():
        yield f"--env={variable}={value}"
    yield run.image_id
    yield from limits.command


def gpu_of(device: str) -> str:
    """Name of a CUDA device for the Container Device Interface: a number or a UUID."""
    number = int(device.partition(":")[2] or 0)
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible[number].strip() if number < len(visible) else str(number)


def _environment(run: ContainerRun) -> dict[str, str]:
    inputs, outputs = FOLDERS[run.contract]
    names = {"HOME": _TEMPORARY[0], "TMPDIR": _TEMPORARY[0]}
    if run.contract == "mercure":
        names |= {"MERCURE_IN_DIR": inputs, "MERCURE_OUT_DIR": outputs}
    if run.contract in ("mercure", "map"):
        names |= {"HOLOSCAN_INPUT_PATH": inputs, "HOLOSCAN_OUTPUT_PATH": outputs}
        names |= {"MONAI_INPUTPATH": inputs, "MONAI_OUTPUTPATH": outputs}
    return names | run.limits.environment


def _log(stream: IO[bytes] | None, output: ChildOutput, tail: list[bytes]) -> None:
    if stream is None:
        return
    with stream:
        for line in output.lines(stream):
            tail[:] = [line] if line.strip() else tail


def _failure(run: ContainerRun, status: int, said: str) -> str:
    reason = f"the container of pipeline {run.pipeline!r} ended with status {status}"
    if status == _KILLED:
        reason += f", killed, most often for lack of memory (run.memory_gib = {run.limits.memory_gib:g})"
    return f"{reason}: {said}" if said else reason
