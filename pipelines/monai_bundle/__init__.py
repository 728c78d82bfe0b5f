"""Adapter for MONAI Bundles, as the MONAI Model Zoo packs them: a folder or a zip file, run by configuration alone.

    [pipelines.spleen]
    factory = "pipelines.monai_bundle:create"
    weights = "/var/lib/ainode/models/spleen_ct_segmentation"   # folder with configs/ and models/, or the zip of one

    [pipelines.spleen.options]
    sha256 = "..."                          # of the whole bundle, as `ainode models add` prints it; others are refused
    # config = "inference"                  # configs/inference.json or .yaml
    # overrides = { "inferer#overlap" = 0.25 }      # of the bundle's own configuration, ids as in MONAI
    # structures = { "spleen" = ["78961009", "SCT", "Spleen"] }     # other codes for the bundle's classes
    # looked_for = ["tumor"]                # classes that are findings; without any outlined: *no findings*
    # inputs = ["t1c", "t1", "t2", "this"]  # for each input channel the companion of the rule, this series, or a mask
    #                                       # of another pipeline's result, such as "organs:Liver"
    # crop = { to = ["organs:Liver"], margin_mm = 20 }              # the model sees the box around these masks
    # classes = ["liver", "spleen"]         # promptable models (VISTA-3D): left out, all that the bundle asks for
    # modality = "MR"                       # left out: as the metadata say
    # min_score = 0.5                       # detection: boxes with a lower score are left out
    # unpickle = false                      # true: also weights that only run as code; never for strangers' files

A bundle's configuration and scripts are programs: take one only from whom you would take a program.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the bundle at ``weights``; see the module's text for the options."""
    from pipelines.monai_bundle.pipeline import create_pipeline

    return create_pipeline(weights=weights, device=device, options=options)
