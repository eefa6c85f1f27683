"""Generator, its fast inference form, discriminator, and their layers."""
