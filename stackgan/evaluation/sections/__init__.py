"""Sections of a report: one file per metric, with its computation and its part of the report."""
