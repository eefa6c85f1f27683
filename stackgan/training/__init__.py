"""The training loop, one step of it, and what belongs to a run."""
