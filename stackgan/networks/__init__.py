"""The generator, its fast form, the discriminator, and the layers that they are made of."""
