"""Runs a bundle on the voxels of a series and gives masks and boxes back on the series' own grid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, decollate_batch
from monai.transforms import MapTransform, reset_ops_id
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from node.errors import WeightsError
from node.pipeline import Algorithm, Code, Findings, Lesion, Needs, Pipeline, Segment, Series, Volume, codes, sentence
from node.pipeline.label_map import label_array, values_of
from pipelines.channels import channels, check_inputs
from pipelines.device import Portions
from pipelines.monai_bundle.bundle import Bundle
from pipelines.monai_bundle.options import Options
from pipelines.options import library, parameters_of, read_options
from pipelines.result_masks import with_crop
from pipelines.structures import check_looked_for, findings_of, label_of, segment_of, structure

ADAPTER = "monai_bundle 3"
"""Raised when the same options and weights give another result than before."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = [2, 1, 0, 3]
"""Column, row, slice: the order in which MONAI's readers give a volume."""
_LABEL_LENGTH = 64
_MODALITIES = {"CT": "CT", "MRI": "MR", "MR": "MR", "PET": "PT", "PT": "PT", "SPECT": "NM", "NM": "NM", "US": "US"}
"""What metadata say -> Modality (0008,0060)."""


def _modality(stated: object) -> str:
    """Modality (0008,0060) for what the metadata call it. Raises ``ValueError`` when they name none."""
    word = re.split(r"[^A-Z0-9]", str(stated).strip().upper())[0]
    modality = _MODALITIES.get(word, word)
    if modality not in _MODALITIES.values():
        raise ValueError(
            f"option modality is missing: the bundle's metadata say {stated!r}; give CT, MR or another Modality"
        )
    return modality


def _check_added_channels(inputs: list[str], name: str, count: int) -> None:
    """Raise ``ValueError`` unless ``inputs`` says where the channels of the network come from that have no name."""
    if len(inputs) not in (1, count):
        raise ValueError(
            f"option inputs = {inputs!r}: the network takes {count} channels, and metadata.json names one of them "
            f'({name}); give inputs = ["this"] if the bundle adds the others itself, as for clicks that a reader may '
            f"make, or name the companion of the rule for each of the {count}"
        )


class BundlePipeline:
    """A bundle as a pipeline."""

    def __init__(self, bundle: Bundle, options: Options) -> None:
        self._bundle = bundle
        self._options = options
        metadata = bundle.metadata
        self._key = bundle.key
        self._input = metadata.input_format(self._key)
        self._classes = {n: name for n, name in metadata.classes.items() if not bundle.asked or n in bundle.asked}
        named = self._input.channel_names
        count = self._input.num_channels
        self._portions = Portions(str(bundle.device), bundle.batches)
        self._modality = options.modality or _modality(self._input.modality)
        check_looked_for(options.looked_for, [*self._classes.values()])
        if len(named) == 1 < count:
            _check_added_channels(options.inputs, named[0], count)
        else:
            check_inputs(options.inputs, named if len(named) == count else ["unnamed"] * count)

    @property
    def algorithm(self) -> Algorithm:
        """Name and version as the bundle's metadata state them, digest of the whole bundle."""
        meta = self._bundle.metadata
        return Algorithm(
            name=(meta.name or self._bundle.root.name)[:_LABEL_LENGTH],
            version=meta.version,
            weights_sha256=self._options.sha256.lower(),
            parameters=parameters_of(self._options.model_dump())
            | {"adapter": ADAPTER, "library": library("monai"), "device": self._portions.device},
        )

    @property
    def needs(self) -> Needs:
        """The modality, as configured or as the metadata say, on a regular grid."""
        return Needs(modalities=frozenset({self._modality}), min_slices=2)

    @property
    def segment_labels(self) -> tuple[str, ...] | None:
        """See ``node.pipeline.Pipeline``; ``None`` of a detector, which numbers what it finds."""
        if self._bundle.detector is not None:
            return None
        return tuple(label_of(name) for _, name in sorted(self._classes.items()) if name.lower() != "background")

    def run(self, series: Series) -> Findings:
        self._portions.begin()
        images = channels(series, self._options.inputs, crop=self._options.crop)
        volume, image = images[0], _image(images)
        with self._bundle.own_code(), torch.inference_mode():
            # A chain of dictionary transforms takes the whole record, a chain of array transforms the image.
            chain = self._bundle.pre.transforms
            whole = not chain or isinstance(chain[0], MapTransform)
            data = self._bundle.pre({self._key: image}) if whole else {self._key: self._bundle.pre(image)}
            prepared: MetaTensor = data[self._key]
            findings = self._portions.run(lambda batch, device: self._findings(volume, prepared, batch, device))
            return with_crop(findings, self._options.crop)

    def _findings(self, volume: Volume, prepared: MetaTensor, batch: int, device: str) -> Findings:
        self._bundle.move(device, batch)
        with torch.autocast("cuda", enabled=device.startswith("cuda") and self._amp()):
            if self._bundle.detector is not None:
                return self._boxes(volume, prepared.to(device))
            return self._masks(volume, prepared.to(device))

    def _amp(self) -> bool:
        return bool(self._bundle.setting("amp", self._bundle.setting("evaluator#amp", default=False)))

    def _masks(self, volume: Volume, prepared: MetaTensor) -> Findings:
        if self._bundle.asked:
            prepared = reset_ops_id(prepared)  # as their evaluator does: they invert a copy of the preprocessing
        raw = self._bundle.infer(prepared[None])
        raw = raw[0] if isinstance(raw, tuple | list) else raw
        prediction = decollate_batch(raw)[0]
        if not isinstance(prediction, MetaTensor):
            prediction = MetaTensor(prediction, meta=prepared.meta, applied_operations=prepared.applied_operations)
        record = {self._key: prepared, "pred": prediction}
        if self._bundle.asked:
            record["label_prompt"] = torch.tensor(self._bundle.asked)[:, None]
        answer = self._bundle.post(record)["pred"]
        labels = np.asarray(answer.cpu()).transpose(0, 3, 2, 1)
        if labels.shape[1:] != volume.array.shape:
            raise WeightsError(
                f"bundle {self._bundle.root.name} answers on a grid of {labels.shape[1:]}, the series has "
                f"{volume.array.shape}; its postprocessing must end with the inverse of its preprocessing"
            )
        return findings_of(self._segments(volume, labels), self._options.looked_for)

    def _segments(self, volume: Volume, label_map: NDArray[Any]) -> dict[str, Segment]:
        """One segment per class, empty where it is not seen: of a label map, or of overlapping channels."""
        whole = label_map.shape[0] == 1
        labels = volume.with_array(label_array(label_map[0]) if whole else np.zeros(volume.array.shape, np.uint8))
        present = set(values_of(labels.array)) if whole else set(range(label_map.shape[0]))
        segments = {}
        for number in sorted(present | self._classes.keys()):
            name = self._classes.get(number, f"class {number}")
            if name.lower() == "background" or (whole and number == 0):
                continue
            overlapping = number in present and not whole
            mask = volume.with_array(label_map[number] > 0) if overlapping else labels
            value = None if not number or overlapping else number
            segments[name] = segment_of(mask, name, number, self._options.structures, value)
        return segments

    def _boxes(self, volume: Volume, prepared: MetaTensor) -> Findings:
        """Lesions from boxes: each is drawn as the ellipsoid that its box encloses."""
        answer = self._bundle.inferer([prepared], self._bundle.network)[0]
        answer = {
            key: value.cpu().float() if value.is_floating_point() else value.cpu() for key, value in answer.items()
        }
        answer = self._bundle.post({**answer, self._key: prepared})
        boxes, scores = np.asarray(answer["box"], float), np.asarray(answer["label_scores"], float)
        to_lps = _LPS_TO_RAS @ np.asarray(prepared.affine, float)
        lesions: list[Lesion] = []
        for box, score in zip(boxes, scores, strict=True):
            if score < self._options.min_score:
                continue
            middle = to_lps @ [*(box[:3] + box[3:]) / 2, 1]  # as the bundle's own step to world coordinates
            radii = np.linalg.norm(to_lps[:3, :3], axis=0) * (box[3:] - box[:3]) / 2
            mask = _ellipsoid(volume, middle[:3], to_lps[:3, :3] / np.linalg.norm(to_lps[:3, :3], axis=0), radii)
            if not mask.any():
                continue
            name = f"{self._target()} {len(lesions) + 1}"
            segment = segment_of(volume.with_array(mask), name, len(lesions), self._options.structures)
            lesions.append(
                Lesion(segment=segment, finding=segment.type, site=self._site(), probability=min(float(score), 1.0))
            )
        remark = sentence(
            "The model gives boxes; each outline is the ellipsoid inside its box, diameters and volume follow from it."
        )
        _, target = structure(self._target())  # a detector looks for what its task names
        return Findings(
            lesions=tuple(lesions),
            looked_for=(target,),
            remarks=(remark,) if lesions else (),
        )

    def _target(self) -> str:
        return "Nodule" if "nodule" in self._bundle.metadata.task.lower() else "Lesion"

    def _site(self) -> Code | None:
        return codes.SCT.Lung if "lung" in self._bundle.metadata.task.lower() else None


def _image(channels: list[Volume]) -> MetaTensor:
    """``[channel, column, row, slice]`` float32 with the affine to RAS mm, as if MONAI's reader had loaded files."""
    array = np.stack([channel.array.transpose(2, 1, 0) for channel in channels]).astype(np.float32)
    affine = torch.from_numpy(_LPS_TO_RAS @ channels[0].affine[:, _REVERSED])
    meta = {
        MetaKeys.ORIGINAL_AFFINE: affine.clone(),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.array(array.shape[1:]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
    }
    return MetaTensor(torch.from_numpy(array), affine=affine, meta=meta)


def _ellipsoid(
    volume: Volume, middle: NDArray[np.float64], axes: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Voxels whose centre lies in the ellipsoid: ``middle`` and ``radii`` in LPS mm, ``axes`` as unit columns."""
    mask = np.zeros(volume.array.shape, np.bool_)
    centre = np.linalg.inv(volume.affine) @ [*middle, 1]
    reach = np.ceil(float(radii.max()) / np.asarray(volume.spacing)).astype(int) + 1
    low = np.clip(np.floor(centre[:3]).astype(int) - reach, 0, mask.shape)
    high = np.clip(np.ceil(centre[:3]).astype(int) + reach + 1, 0, mask.shape)
    index = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
    place = index @ volume.affine[:3, :3].T + volume.affine[:3, 3] - middle
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = (
        np.linalg.norm(place @ axes / np.maximum(radii, 1e-3), axis=-1) <= 1
    )
    return mask


def create_pipeline(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the bundle at ``weights``."""
    read = read_options(Options, options)
    bundle = Bundle(
        weights,
        sha256=read.sha256,
        device=device,
        config=read.config,
        overrides=read.overrides,
        modality=read.modality,
        classes=read.classes,
        unpickle=read.unpickle,
    )
    return BundlePipeline(bundle, read)
