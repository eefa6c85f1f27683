"""Measurements of a checkpoint: :mod:`evaluate` runs the table of sections over a context and writes the report."""
