"""Training and evaluation of the FLAIR network. Inference imports nothing from here."""
