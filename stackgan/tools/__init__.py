"""Checkpoints converted, averaged, published; the state of the machine."""
