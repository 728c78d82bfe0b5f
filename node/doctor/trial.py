"""Every pipeline once on a synthetic series, as ``ainode try`` does it: in its own process, without the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from node.check import Check
from node.config import Config
from node.demo.images import Truth
from node.demo.phantom import write_brain_flair, write_chest_ct
from node.errors import NodeError
from node.inference.worker import device_names

_PHANTOMS: dict[str, Callable[[Path], Truth]] = {
    "CT": lambda folder: write_chest_ct(folder, matrix=288),
    "MR": lambda folder: write_brain_flair(folder, matrix=160),
}
"""By Modality; pixels below 1.5 mm, which is what the shipped pipelines need."""


def try_pipelines(config: Config, config_path: Path, pipelines: Sequence[dict[str, Any]]) -> Iterator[Check]:
    """``pipelines``: as ``node.check.describe_pipelines`` tells them; what cannot be loaded was told already."""
    with TemporaryDirectory(prefix="ainode-doctor-") as name:
        for one in pipelines:
            if "error" not in one:
                yield _try(config, config_path, one, Path(name))


def _try(config: Config, config_path: Path, pipeline: dict[str, Any], below: Path) -> Check:
    name, line = pipeline["name"], f"self-test of {pipeline['name']}"
    wanted = pipeline["needs"]["modalities"]
    modality = next((m for m in _PHANTOMS if m in wanted), None)
    if modality is None:
        return Check(name=line, good=True, found=f"not run: there is no synthetic series of {', '.join(wanted)}")
    folder = below / modality
    if not folder.exists():
        _PHANTOMS[modality](folder)
    try:
        device = device_names(config.devices)[0]
    except NodeError as error:
        return Check(name=line, good=False, found=str(error))
    command = [sys.executable, "-P", "-m", "node", "try", "--config", str(config_path), "--json", "--device", device]
    limit = config.jobs.run_timeout_seconds
    started = time.monotonic()
    try:
        done = subprocess.run(
            [*command, name, str(folder)], capture_output=True, text=True, errors="replace", timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        remedy = "use a faster device, or raise [jobs] run_timeout_seconds"
        return Check(name=line, good=False, found=f"took more than {limit:g} s on {device}", remedy=remedy)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        remedy = f"see `ainode try {name} FOLDER` with images of yours; the pipeline, its weights or memory is at fault"
        return Check(name=line, good=False, found=why, remedy=remedy)
    (series,) = json.loads(done.stdout)["series"]
    found = (
        f"{series['outcome']} on {modality} phantom, {series['lesions']} lesions, {series['seconds']:.1f} s on {device}"
        f" ({time.monotonic() - started:.0f} s with loading)"
    )
    if series["fault"]:
        remedy = "a node would hold this result back; report it to the author of the pipeline"
        return Check(name=line, good=False, found=f"{found}; not fit to be sent: {series['fault']}", remedy=remedy)
    return Check(name=line, good=True, found=f"{found} {series['reason']}".rstrip())
