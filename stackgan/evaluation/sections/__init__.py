"""The sections of a report: one file a metric, with its measure and what the report says about it."""
