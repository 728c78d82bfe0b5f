"""Lays out the images, has the container run, and reads what it returned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pydicom

from node.pipeline import Algorithm, Findings, Needs, Series, Unsuitable, sentence
from node.pipeline.outside import Outside
from pipelines.channels import channels
from pipelines.container.nifti import write_image
from pipelines.container.options import ContainerOptions, file_of
from pipelines.container.results import Results
from pipelines.options import parameters_of
from pipelines.result_masks import SEPARATOR, mask_of, with_crop

ADAPTER = "container 1"
"""Raised when the same options and image give another result than before."""


class ContainerPipeline:
    """The container with its description."""

    def __init__(self, *, image: str, outside: Outside, device: str, options: ContainerOptions) -> None:
        self.options = options
        self._image, self._outside, self._device = image, outside, device

    @property
    def algorithm(self) -> Algorithm:
        """Identity as configured; the digest of the image stands for the weights."""
        unused = set() if self.options.masks else {"masks"}
        settings = parameters_of(self.options.model_dump(exclude={"run", *unused}))
        command = {
            name: json.dumps(self.options.run[name]) for name in ("command", "environment") if name in self.options.run
        }
        return Algorithm(
            name=self.options.name,
            version=self.options.version,
            weights_sha256=self._image.rpartition(":")[2],
            parameters=settings | command | {"adapter": ADAPTER, "image": self._image, "device": self._device},
        )

    @property
    def needs(self) -> Needs:
        """The configured modality on a regular grid."""
        return Needs(modalities=frozenset({self.options.modality}), min_slices=2)

    @property
    def segment_labels(self) -> tuple[str, ...] | None:
        """See ``node.pipeline.Pipeline``; ``None`` where it may return a DICOM SEG, which names its segments itself."""
        return self.options.segment_labels if self.options.contract == "plain" else None

    def run(self, series: Series) -> Findings:
        """Raises ``PipelineError`` when the container fails, or returns nothing or something about other images."""
        volume, source, task = series.volume(self.options.orientation), None, self._task(series)
        if self.options.takes_dicom:
            self._lay_files()
            task |= self._lay_masks(series)
            source = pydicom.dcmread(self._outside.files[""][0], stop_before_pixels=True)
        else:
            names = ["image", *self.options.inputs]
            images = channels(series, ["this", *self.options.inputs], self.options.orientation, self.options.crop)
            volume = images[0]
            for name, image in zip(names, images, strict=True):
                write_image(self._outside.inputs / file_of(name), image)
        (self._outside.inputs / "task.json").write_text(json.dumps(task))
        self._outside.call()
        results = Results(
            folder=self._outside.outputs,
            options=self.options,
            images=volume,
            source=source,
            pictures=self.options.pictures,
        )
        return with_crop(results.findings(), self.options.crop)

    def _lay_files(self) -> None:
        """Copies: a container must not have the very files that the node keeps."""
        for name in ("", *(name for name in self.options.inputs if SEPARATOR not in name)):
            if name not in self._outside.files:
                raise Unsuitable(
                    sentence(
                        "The container also needs the series {name}, which this study does not offer", name=repr(name)
                    )
                )
            for path in self._outside.files[name]:
                self._lay_file(path)

    def _lay_file(self, path: Path) -> str:
        """The name of the copy, as modules of mercure expect it."""
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
        name = f"{header.SeriesInstanceUID}#{header.SOPInstanceUID}.dcm"
        shutil.copyfile(path, self._outside.inputs / name)
        return name

    def _lay_masks(self, series: Series) -> dict[str, list[dict[str, Any]]]:
        """Lay masks of other pipelines beside the DICOM files, and return what ``task.json`` says of them."""
        laid: list[dict[str, Any]] = []
        for name in self.options.inputs:
            if SEPARATOR not in name:
                continue
            mask = mask_of(name, series, self.options.orientation)
            if not self.options.takes_segmentations:
                write_image(self._outside.inputs / file_of(name), mask)
                laid.append({"name": name, "file": file_of(name)})
                continue
            pipeline, _, label = name.partition(SEPARATOR)
            path = self._outside.segmentations[pipeline]
            laid.append({"name": name, "file": self._lay_file(path), "segment_number": _segment_number(path, label)})
        return {"masks": laid} if laid else {}

    def _task(self, series: Series) -> dict[str, Any]:
        """``task.json``, in the places where modules of mercure look."""
        uid = str(series.attribute("SeriesInstanceUID") or "")
        return {
            "info": {
                "action": "process",
                "uid": uid,
                "uid_type": "series",
                "triggered_rules": {},
                "mrn": "",
                "acc": "",
            },
            "process": {"module_name": self.options.name, "settings": self.options.settings},
            "settings": self.options.settings,
            "modality": series.modality,
            "device": self._device.partition(":")[0],
        }


def _segment_number(path: Path, label: str) -> int:
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SegmentSequence"])
    return next(int(segment.SegmentNumber) for segment in header.SegmentSequence if segment.SegmentLabel == label)
