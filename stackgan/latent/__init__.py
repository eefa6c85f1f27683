"""Latent modules: distributions, conditioning augmentation, priors, posterior, normalizing flows."""
