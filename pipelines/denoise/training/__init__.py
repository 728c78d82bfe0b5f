"""Training and evaluation of the denoiser. Inference imports nothing from here."""
