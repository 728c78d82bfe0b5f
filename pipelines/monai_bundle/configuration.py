"""The configuration of a MONAI Bundle, edited to work on volumes in memory, with the MONAI and device of this node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from node.errors import WeightsError

READERS = ("LoadImage", "EnsureChannelFirst")
"""Transforms of the preprocessing that read files; the node gives the voxels."""
WRITERS = ("SaveImage", "AffineBoxToWorldCoordinate", "ConvertBoxMode", "DeleteItems")
"""Transforms of the postprocessing that write files or leave the image's grid."""
_FORMER_ARGUMENTS = {"SwinUNETR": ("img_size",)}
"""Arguments that earlier versions of MONAI took and that changed nothing in the network."""
_CUDA = re.compile(r"""(['"])cuda(:\d+)?\1""")


def read_configuration(root: Path, config: str, overrides: Mapping[str, Any], device: str) -> ConfigParser:
    """Read ``configs/CONFIG`` of the bundle at ``root`` for ``device``.

    Raises ``ValueError`` when there is no such file or id, ``WeightsError`` for a file that cannot be read.
    """
    configs = root / "configs"
    file = next((f for s in (".json", ".yaml", ".yml") if (f := configs / f"{config}{s}").is_file()), None)
    if file is None:
        known = ", ".join(sorted(f.stem for f in configs.iterdir()))
        raise ValueError(f"option config = {config!r}: the bundle has no such configuration; use one of {known}")
    parser = ConfigParser()
    try:
        parser.read_meta(str(configs / "metadata.json"))
        parser.read_config(str(file))
    except Exception as error:  # JSON, YAML and codecs have classes of their own for what they cannot read
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise WeightsError(
            f"weights: {file} cannot be read ({reason}); give the bundle as its author packs it"
        ) from error
    parser["bundle_root"] = str(root)
    parser["device"] = f"$torch.device({device!r})"
    for key, value in overrides.items():
        try:
            parser[key] = value
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"option overrides.{key}: the bundle's configuration has no such id ({error})") from error
    for key, value in parser.config.items():
        if key != parser.meta_key:
            parser.config[key] = _edited(value, device)
    steps = parser.get("postprocessing#transforms")
    if isinstance(steps, list):
        parser["postprocessing#transforms"] = _before_remap(
            [step for step in steps if not target(step).startswith(WRITERS)]
        )
    try:
        parser.parse(reset=True)
    except KeyError as error:
        raise WeightsError(
            f"weights: a file in {configs} refers to an id that the bundle does not have ({error}); "
            "give the bundle as its author packs it"
        ) from error
    return parser


def target(step: Any) -> str:
    """Class name of a component in a configuration; empty for anything else."""
    return str(step.get("_target_", "")).rpartition(".")[2] if isinstance(step, dict) else ""


def _edited(value: Any, device: str) -> Any:
    """``value`` without readers and former arguments; devices that it names are ``device``."""
    if isinstance(value, dict):
        former = _FORMER_ARGUMENTS.get(target(value), ())
        return {key: _edited(part, device) for key, part in value.items() if key not in former}
    if isinstance(value, list):
        return [_edited(part, device) for part in value if not target(part).startswith(READERS)]
    if isinstance(value, str) and value.startswith("$"):
        return _CUDA.sub(repr(device), value)
    return value


def _before_remap(steps: list[Any]) -> list[Any]:
    """Without the last step of a multi-label model that folds its overlapping channels into one label map."""
    overlapping = any(target(step).startswith("AsDiscrete") and step.get("threshold") is not None for step in steps)
    return [step for step in steps if not (overlapping and target(step).startswith("Lambda"))]
