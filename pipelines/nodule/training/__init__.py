"""Training and evaluation of the nodule networks. Inference imports nothing from here."""
