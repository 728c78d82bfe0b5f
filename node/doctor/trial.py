"""Test run of every pipeline on a synthetic series with ``ainode try``, in a separate process without the ledger."""

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
from node.errors import GateError, NodeError
from node.inference.devices import device_names
from node.translation import Sentence, decimal, gettext

_PHANTOMS: dict[str, Callable[[Path], Truth]] = {
    "CT": lambda folder: write_chest_ct(folder, matrix=288),
    "MR": lambda folder: write_brain_flair(folder, matrix=160),
}
"""Phantom by Modality; its pixels are below 1.5 mm, as the shipped pipelines require."""


def try_pipelines(config: Config, config_path: Path, pipelines: Sequence[dict[str, Any]]) -> Iterator[Check]:
    """Run each pipeline of ``node.check.describe_pipelines`` that could be loaded."""
    with TemporaryDirectory(prefix="ainode-doctor-") as name:
        for pipeline in pipelines:
            if "error" not in pipeline:
                yield _try(config, config_path, pipeline, Path(name))


def _try(config: Config, config_path: Path, pipeline: dict[str, Any], below: Path) -> Check:
    name, line = pipeline["name"], gettext("self-test of {name}", name=pipeline["name"])
    if source := config.returned.get(name):
        text = gettext("not run: it reads what comes back from {destination}", destination=source)
        return Check(name=line, good=True, found=text)
    wanted = pipeline["needs"]["modalities"]
    modality = next((m for m in _PHANTOMS if m in wanted), None)
    if modality is None:
        text = gettext("not run: no synthetic series for {modalities}", modalities=", ".join(wanted))
        return Check(name=line, good=True, found=text)
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
        result = subprocess.run(
            [*command, name, str(folder)], capture_output=True, text=True, errors="replace", timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        text = gettext("took more than {seconds} s on {device}", seconds=f"{limit:g}", device=device)
        remedy = gettext("use a faster device, or raise [jobs] run_timeout_seconds")
        return Check(name=line, good=False, found=text, remedy=remedy)
    if result.returncode not in (0, GateError.exit_code) or not result.stdout:
        why = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        remedy = gettext(
            "run `ainode try {name} FOLDER` with your own images; check the pipeline, its weights and memory", name=name
        )
        return Check(name=line, good=False, found=why, remedy=remedy)
    (series,) = json.loads(result.stdout)["series"]
    text = gettext(
        "{outcome} on {modality} phantom, {lesions} lesions, {seconds} s on {device} ({whole} s including loading)",
        outcome=gettext(series["outcome"]),
        modality=modality,
        lesions=series["lesions"],
        seconds=decimal(f"{series['seconds']:.1f}"),
        device=device,
        whole=f"{time.monotonic() - started:.0f}",
    )
    if series["fault"]:
        text = gettext("{result}; not valid: {fault}", result=text, fault=series["fault"])
        remedy = gettext("the node would quarantine this result; report it to the author of the pipeline")
        return Check(name=line, good=False, found=text, remedy=remedy)
    reason = Sentence(series["reason"], series["reason_translations"])
    return Check(name=line, good=True, found=f"{text}: {reason}" if reason else text)
