"""Evaluation of checkpoints: :mod:`evaluate` computes the sections of a report and writes it."""
