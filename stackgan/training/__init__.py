"""Training: the loop, one step, losses, EMA, diagnostics, and the state and outputs of a run."""
