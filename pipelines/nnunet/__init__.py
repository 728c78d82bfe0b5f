"""Adapter for models trained with nnU-Net v2: the results folder of one configuration, run by nnU-Net's own predictor.

    [pipelines.liver]
    factory = "pipelines.nnunet:create"
    # The folder with plans.json, dataset.json and fold_0/checkpoint_final.pth, or a zip of it:
    weights = "/var/lib/ainode/models/nnUNetTrainer__nnUNetPlans__3d_fullres"

    [pipelines.liver.options]
    sha256 = "..."                          # of the whole folder, as `ainode models add` prints it; others are refused
    # configuration = "3d_fullres"          # of a folder with several; left out: what nnU-Net found to be best;
    #                                       # "3d_cascade_fullres" also runs the 3d_lowres that lies next to it;
    #                                       # ["2d", "3d_fullres"]: the mean of both
    # folds = ["0"]                         # left out: every fold_N that is there; their answers are averaged
    # checkpoint = "checkpoint_final.pth"
    # mirroring = true                      # average over mirrored copies, as the training allows: up to 8 times the
    #                                       # work; left out: on a GPU yes, on a CPU no
    # orientation = "HPL"                   # how the training files were stored: slices, rows, columns grow towards
    # modality = "MR"                       # left out: CT when a channel is called CT, else MR
    # inputs = ["t1", "this"]               # for each channel the companion of the rule, this series, or a mask of
    #                                       # another pipeline's result, such as "organs:Liver"
    # crop = { to = ["organs:Liver"], margin_mm = 20 }              # the model sees the box around these masks
    # structures = { "liver" = ["10200004", "SCT", "Liver"] }       # other codes for the labels of dataset.json
    # looked_for = ["tumor"]                # labels that are findings; without any outlined: *no findings*
    # postprocessing = true                 # as postprocessing.json says; false: left out, and the report says so
    # unpickle = false                      # true: also checkpoints that only run as code; never for strangers' files

Needs the extra ``pip install 'ainode[nnunet]'``. Where torch is a build for the CPU, install torchvision from the same
place as torch: nnU-Net imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the folder at ``weights``; see the module's text for the options."""
    from pipelines.nnunet.pipeline import create_pipeline

    return create_pipeline(weights=weights, device=device, options=options)
