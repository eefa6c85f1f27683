"""Measurements of a checkpoint, and the report."""
