"""Reading a MONAI Bundle: its own configuration, edited so that it works on volumes in memory, never on files."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer
from monai.transforms import Compose
from torch import nn

from node.errors import PlatformError, WeightsError
from pipelines.monai_bundle.metadata import Metadata
from pipelines.pinned import pinned_folder

_READERS = ("LoadImage", "EnsureChannelFirst")
"""Transforms of the preprocessing that read files; the node gives the voxels."""
_WRITERS = ("SaveImage", "AffineBoxToWorldCoordinate", "ConvertBoxMode", "DeleteItems")
"""Transforms of the postprocessing that write files or leave the image's grid."""
_OWN_CODE = "scripts"
"""The package in which every bundle brings code; two bundles in one process must not see each other's."""


class Bundle:
    """A loaded bundle: ``pre`` and ``post`` transforms, ``network``, ``inferer`` and what its metadata says."""

    def __init__(
        self, path: Path | None, *, sha256: str, device: str, config: str, overrides: Mapping[str, Any], unpickle: bool
    ) -> None:
        """Read, check against the digest, load.

        Raises ``WeightsError`` when the bundle is missing, altered or incomplete, ``PlatformError`` when it needs a
        package that is not installed, ``ValueError`` for overrides it does not know.
        """
        self.root = pinned_folder(path, sha256, "configs/metadata.json", self)
        self.device = torch.device(device)
        self._code: dict[str, ModuleType] = {}
        self.metadata = Metadata.read(self.root / "configs" / "metadata.json")
        try:
            self._parser = self._read(config, overrides)
        except KeyError as error:
            raise WeightsError(
                f"weights: a file in {self.root / 'configs'} refers to an id that the bundle does not have ({error}); "
                "give the bundle as its author packs it"
            ) from error
        try:
            with self.own_code():
                self._load(unpickle=unpickle)
        except ImportError as error:
            raise PlatformError(
                f"bundle {self.root.name} needs a package that is not installed ({error}); install it beside the node. "
                "Detection bundles need the extra: pip install 'ainode[detection]'"
            ) from error

    @contextmanager
    def own_code(self) -> Iterator[None]:
        """Within it, ``scripts`` is this bundle's package."""
        others = _take_own_code()
        sys.modules.update(self._code)
        sys.path.insert(0, str(self.root))
        bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a written file would change the digest
        try:
            yield
        finally:
            sys.path.remove(str(self.root))
            sys.dont_write_bytecode = bytecode
            self._code = _take_own_code()
            sys.modules.update(others)

    @property
    def batches(self) -> tuple[int, ...]:
        """Windows at once as the bundle says, then half as many, down to one."""
        most = int(getattr(self.inferer, "sw_batch_size", 1))
        return tuple(most >> halvings for halvings in range(most.bit_length()))

    def move(self, device: str, batch: int) -> None:
        """From now on compute on ``device``, with ``batch`` windows at once where there are windows."""
        self.network.to(device)
        if self.detector is not None:
            self.detector.to(device)
        if hasattr(self.inferer, "sw_batch_size"):
            self.inferer.sw_batch_size = batch

    def part(self, key: str) -> Any:
        """The object that the configuration describes under ``key``; ``None`` when it has none."""
        if self._parser.get(key) is None:
            return None
        return self._parser.get_parsed_content(key, instantiate=True)

    def setting(self, key: str, default: Any = None) -> Any:
        """The value under ``key``, evaluated."""
        return default if self._parser.get(key) is None else self._parser.get_parsed_content(key)

    def _read(self, config: str, overrides: Mapping[str, Any]) -> ConfigParser:
        configs = self.root / "configs"
        file = next((f for s in (".json", ".yaml", ".yml") if (f := configs / f"{config}{s}").is_file()), None)
        if file is None:
            known = ", ".join(sorted(f.stem for f in configs.iterdir()))
            raise ValueError(f"option config = {config!r}: the bundle has no such configuration; use one of {known}")
        parser = ConfigParser()
        parser.read_meta(str(configs / "metadata.json"))
        parser.read_config(str(file))
        parser["bundle_root"] = str(self.root)
        parser["device"] = f"$torch.device({str(self.device)!r})"
        for key, value in overrides.items():
            try:
                parser[key] = value
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"option overrides.{key}: the bundle's configuration has no such id ({error})"
                ) from error
        for key, unwanted in (("preprocessing", _READERS), ("postprocessing", _WRITERS)):
            steps = parser.get(f"{key}#transforms")
            if not isinstance(steps, list):
                continue
            remaining = [step for step in steps if not _name(step).startswith(unwanted)]
            if key == "postprocessing":
                remaining = self._before_remap(remaining)
            parser[f"{key}#transforms"] = remaining
        parser.parse(reset=True)
        return parser

    def _before_remap(self, steps: list[Any]) -> list[Any]:
        """Without the last step of a multi-label model that folds its overlapping channels into one label map."""
        overlapping = any(_name(step).startswith("AsDiscrete") and step.get("threshold") is not None for step in steps)
        return [s for s in steps if not (overlapping and _name(s).startswith("Lambda"))]

    def _load(self, *, unpickle: bool) -> None:
        self.pre = _without(self.part("preprocessing") or Compose([]), _READERS)
        self.post = _without(self.part("postprocessing") or Compose([]), _WRITERS)
        self.network = self._network(unpickle=unpickle).to(self.device).eval()
        self.part("detector_ops")  # a detection bundle sets its box selection here
        self.inferer = self.part("inferer") or SimpleInferer()
        self.detector = getattr(self.inferer, "detector", None)
        if self.detector is not None:
            self.detector.to(self.device).eval()

    def _load_path(self) -> Any:
        """Where the bundle loads its weights from: the path of its checkpoint loader, alone or among handlers."""
        if path := self.setting("checkpointloader#load_path"):
            return path
        for key in ("handlers", "evaluator#val_handlers"):
            handlers = self._parser.get(key)
            for number, handler in enumerate(handlers if isinstance(handlers, list) else ()):
                if _name(handler) == "CheckpointLoader":
                    return self.setting(f"{key}#{number}#load_path")
        return None

    def _network(self, *, unpickle: bool) -> nn.Module:
        file = Path(str(self._load_path() or self.root / "models" / "model.pt"))
        scripted = self.root / "models" / "model.ts"
        if not file.is_file() and scripted.is_file():
            loaded: nn.Module = torch.jit.load(str(scripted), map_location=self.device)
            return loaded
        if not file.is_file():
            raise WeightsError(f"weights: {file} does not exist; fetch the bundle's large files as its README says")
        try:
            state = torch.load(file, map_location="cpu", weights_only=not unpickle)
        except pickle.UnpicklingError as error:
            raise WeightsError(
                f"weights: {file} is more than tensors and runs code when it is read; "
                "set the option unpickle = true only if you trust its author as you trust a program"
            ) from error
        for key in ("model", "state_dict"):
            if isinstance(state, dict) and isinstance(state.get(key), dict):
                state = state[key]
        network: nn.Module = self.part("network" if self._parser.get("network") is not None else "network_def")
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(f"weights: {file} does not fit the bundle's network ({error})") from error
        return network


def _without(chain: Compose, unwanted: tuple[str, ...]) -> Compose:
    """``chain`` itself, without steps of these names: a configuration may give them as an expression."""
    chain.transforms = tuple(step for step in chain.transforms if not type(step).__name__.startswith(unwanted))
    return chain


def _name(step: Any) -> str:
    """Class name of a transform in a configuration."""
    return str(step.get("_target_", "")).rpartition(".")[2] if isinstance(step, dict) else ""


def _take_own_code() -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == _OWN_CODE}
