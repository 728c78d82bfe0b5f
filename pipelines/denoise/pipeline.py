"""The denoising pipeline: returns a derived series on the voxels of a CT volume."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from node.pipeline import Algorithm, DerivedSeries, Findings, Needs, Series, Unsuitable, codes, sentence
from pipelines.denoise.network import DenoiseNet
from pipelines.denoise.noise import noise_map
from pipelines.device import Portions, autocast, native_precision, to_device
from pipelines.options import parameters_of
from pipelines.weights import fill, load_weights

VERSION = "1.1.0"
WEIGHTS = Path(__file__).with_name("weights.safetensors")
FLOOR_HU, CEILING_HU = -1024.0, 3071.0
"""The range of 12-bit CT. Voxels at its ends or beyond (padding, metal in the extended scale) are never altered."""
AIR_HU = -700.0
"""Rows and columns in which nothing is denser, on any slice, hold only air: they are left out, with a margin."""
AIR_MARGIN = 24
"""Pixels of air kept round the patient, so that the edge of the denoised part lies far from anything of interest."""
LEVEL_EVERY = 8
"""The noise that is left is measured on every n-th slice; once per slice would cost as much as the estimate itself."""
BATCHES = (16, 4, 1)
"""Slices at once on a GPU, less where memory does not suffice; each core of a CPU takes one after the other."""
DESCRIPTION_LENGTH = 64
"""Characters of a Series Description (0008,103E), value representation LO (PS3.5 6.2)."""
REMARK = sentence("Denoised images are to be read beside the originals.")

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The table ``[pipelines.NAME.options]``."""

    strength: float = 0.9
    """Fraction, 0 to 1, of the noise power above the reference that is taken; 0 leaves every image as it is."""
    reference_noise_hu: float = 14.0
    """Noise (standard deviation of fine detail in flat soft tissue, HU) that is left alone, 0 or more. Three in four
    full-dose training slices of 3 mm and more are below the default, so they stay as they are; 0: nothing is left."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength is {self.strength}; use a number from 0 (nothing) to 1 (all), for example 0.9")
        if not 0 <= self.reference_noise_hu <= 200:
            raise ValueError(
                f"reference_noise_hu is {self.reference_noise_hu}; use HU from 0 (remove all) to 200, for example 14"
            )


def read_options(options: Mapping[str, Any]) -> Options:
    """``options`` as ``Options``; ``ValueError`` names the option, its value and the remedy."""
    known = [f.name for f in fields(Options)]
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"option {name} = {value!r} is unknown; use one of {', '.join(known)}")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"option {name} is {value!r}; give a number")  # noqa: TRY004 - the contract promises ValueError
    return Options(**options)


class DenoisePipeline:
    """The loaded network with its settings."""

    def __init__(self, *, weights: Path | None, device: str, options: Options) -> None:
        path = weights or WEIGHTS
        loaded = load_weights(path)
        self.network = DenoiseNet()
        fill(self.network, loaded.tensors, path)
        self.network.to(device).eval()
        self._portions = Portions(device, BATCHES if device.startswith("cuda") else BATCHES[-1:])
        self.options = options
        self._sha256 = loaded.sha256

    @property
    def algorithm(self) -> Algorithm:
        """Identity, weights and settings."""
        device = self._portions.device
        return Algorithm(
            name="CT denoising",
            version=VERSION,
            weights_sha256=self._sha256,
            parameters=parameters_of(asdict(self.options)) | {"precision": native_precision(device), "device": device},
            scope=sentence(
                "Makes CT slices less noisy that are noisier than the reference; it looks for nothing in them."
            ),
        )

    @property
    def needs(self) -> Needs:
        """CT on a regular grid, one slice or more; pixels not larger than those of a chest CT."""
        return Needs(modalities=frozenset({"CT"}), max_pixel_spacing_mm=1.5)

    def run(self, series: Series) -> Findings:
        """Denoise slice by slice as acquired, each with its two neighbours."""
        self._portions.begin()
        rescale_type = series.attribute("RescaleType")
        if rescale_type not in (None, "", "HU", "US"):  # US: unspecified, as some scanners write it for HU
            raise Unsuitable(
                sentence("Pixel values are {unit}, not Hounsfield units (Rescale Type)", unit=str(rescale_type))
            )
        volume = series.volume()
        output, before, after = self.denoise(volume.array)
        if before == 0:
            raise Unsuitable(sentence("No flat soft tissue was found in which noise could be measured"))
        name = " ".join(str(series.attribute("SeriesDescription") or "").split())
        remark = sentence(
            "Noise in flat soft tissue {before} HU before, {after} HU after (median over slices; strength {strength}, "
            "reference {reference} HU).",
            before=f"{before:.0f}",
            after=f"{after:.0f}",
            strength=f"{self.options.strength:g}",
            reference=f"{self.options.reference_noise_hu:g}",
        )
        derived = DerivedSeries(
            volume=volume.with_array(output),
            description=f"Denoised {name}"[:DESCRIPTION_LENGTH].strip(),
            derivation=codes.DCM.Smoothing,
        )
        return Findings(derived=(derived,), remarks=(remark, REMARK))

    def denoise(self, hu: FloatArray) -> tuple[FloatArray, float, float]:
        """Denoised copy of ``hu`` ``[slice, row, column]``, and the noise level (HU) before and after.

        Levels are medians over every eighth slice with enough flat soft tissue, 0 when there is none. Memory beyond
        the copy is that of a few slices.
        """
        return self._portions.run(lambda batch, device: self._denoise(hu, batch, device))

    def _denoise(self, hu: FloatArray, batch: int, device: str) -> tuple[FloatArray, float, float]:
        output = hu.copy()
        box = dense_box(hu)
        inside = hu[(hu > FLOOR_HU) & (hu < CEILING_HU)]
        limits = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
        self.network.to(device)
        workers = 1 if device.startswith("cuda") else torch.get_num_threads()
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            portions = pool.map(
                lambda chosen: self._portion(hu, output, chosen, box=box, limits=limits, device=device),
                (range(first, min(first + batch, len(hu))) for first in range(0, len(hu), batch)),
            )
            measured = [level for portion in portions for level in portion][::LEVEL_EVERY]
        if not measured:
            return output, 0.0, 0.0
        after = [float(noise_map(torch.from_numpy(output[k][box])[None, None]).median()) for k, _ in measured]
        return output, float(np.median([before for _, before in measured])), float(np.median(after))

    @torch.inference_mode()
    def _portion(
        self,
        hu: FloatArray,
        output: FloatArray,
        chosen: range,
        *,
        box: tuple[slice, slice],
        limits: tuple[float, float],
        device: str,
    ) -> list[tuple[int, float]]:
        """Write the denoised ``chosen`` slices into ``output``; number and noise level of those that had any."""
        context = np.clip([[k - 1, k, k + 1] for k in chosen], 0, len(hu) - 1)
        slices = to_device(torch.from_numpy(hu[:, *box][context]), device).clamp(FLOOR_HU, CEILING_HU)
        noise = noise_map(slices[:, 1:2])
        measured = []
        for k, clean, there in zip(chosen, self._subtract(slices, noise, device), noise, strict=True):
            if float(there.max()) > 0:
                source = hu[k][box]
                touched = (source > FLOOR_HU) & (source < CEILING_HU)
                output[k][box][touched] = clean.clamp(*limits).cpu().numpy()[touched]
                measured.append((k, float(there.median())))
        return measured

    def _subtract(self, slices: Tensor, noise: Tensor, device: str) -> Tensor:
        """``slices`` ``[batch, 3, row, column]`` and noise maps to the denoised middle slices, HU, without the 3.

        The whole noise is estimated and part of it subtracted. Of noise with the power (level squared) P, of which R
        is the reference's, the least-squares estimate of the part above the reference is the share 1 - R / P.
        """
        level = noise.clamp(min=1e-3)
        share = self.options.strength * (1 - (self.options.reference_noise_hu / level).square()).clamp(min=0)
        middle = slices[:, 1]
        if float(share.max()) == 0:
            return middle
        with autocast(device, native_precision(device)):
            estimate = self.network(slices, noise)
        return middle - (share * estimate.float())[:, 0]


def dense_box(hu: FloatArray) -> tuple[slice, slice]:
    """Rows and columns of ``hu`` ``[slice, row, column]`` round all that is not air, with a margin."""
    dense = hu.max(axis=0) > AIR_HU
    spans = []
    for axis in (1, 0):
        indices = np.flatnonzero(dense.any(axis=axis))
        first, last = (int(indices[0]), int(indices[-1])) if indices.size else (0, -1)
        spans.append(slice(max(first - AIR_MARGIN, 0), last + 1 + AIR_MARGIN))
    return spans[0], spans[1]


def load(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> DenoisePipeline:
    """The factory behind ``pipelines.denoise:create``."""
    return DenoisePipeline(weights=weights, device=device, options=read_options(options))
