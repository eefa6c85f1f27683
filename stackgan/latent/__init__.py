"""Latent modules: distributions, conditioning augmentation, priors."""
