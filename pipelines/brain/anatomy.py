"""What the network labels and what of it is reported."""

from __future__ import annotations

from dataclasses import dataclass

from node.pipeline import Code, codes, marked

CORTEX = tuple(range(16, 50))
"""Labels of the parcels of the cortex. They are reported as one: single parcels are not reliable."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One structure of the report."""

    name: str
    labels: tuple[int, ...]
    """Of the 50 classes of the network."""
    code: Code
    colour: tuple[int, int, int]
    paired: bool = True
    """Left and right are measured on their own. Those of the cerebellum differ from FreeSurfer's by up to 13 points."""
    approximate: bool = False
    """Volumes differ from FreeSurfer's by so much that only their order of magnitude is certain."""

    @property
    def sides(self) -> tuple[str, ...]:
        """``"left"`` and ``"right"``, or ``""`` for both together."""
        return ("left", "right") if self.paired else ("",)

    def label(self, side: str) -> str:
        """What segmentation and report call it on one of its ``sides``."""
        return f"{side} {self.name}".strip().capitalize()


STRUCTURES = (
    Structure(name=marked("hippocampus"), labels=(10,), code=codes.SCT.Hippocampus, colour=(240, 228, 66)),
    Structure(name=marked("amygdala"), labels=(11,), code=codes.SCT.Amygdala, colour=(86, 180, 233)),
    Structure(name=marked("thalamus"), labels=(5,), code=codes.SCT.Thalamus, colour=(0, 158, 115)),
    Structure(name=marked("caudate nucleus"), labels=(6,), code=codes.SCT.CaudateNucleus, colour=(213, 94, 0)),
    Structure(name=marked("putamen"), labels=(7,), code=codes.SCT.Putamen, colour=(204, 121, 167)),
    Structure(name=marked("brain stem"), labels=(9,), code=codes.SCT.BrainStem, colour=(160, 160, 160), paired=False),
    Structure(name=marked("cerebellum"), labels=(3, 4), code=codes.SCT.Cerebellum, colour=(230, 159, 0), paired=False),
    Structure(
        name=marked("cerebral cortex"),
        labels=CORTEX,
        code=codes.SCT.CerebralCortex,
        colour=(205, 110, 110),
        approximate=True,
    ),
    Structure(
        name=marked("cerebral white matter"),
        labels=(1,),
        code=codes.SCT.CerebralWhiteMatter,
        colour=(220, 220, 220),
        approximate=True,
    ),
    Structure(
        name=marked("ventricles"),
        labels=(2,),
        code=codes.SCT.BrainVentricle,
        colour=(0, 114, 178),
        paired=False,
        approximate=True,
    ),
)
FLUID = (2, 12)
"""Labels that are no tissue: ventricles and other fluid."""
