"""The DICOMweb service of the node: STOW-RS into its receiver, QIDO-RS and WADO-RS of what it holds."""
