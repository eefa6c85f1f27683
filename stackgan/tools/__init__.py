"""Tools: import, averaging and publication of checkpoints, and checks of the machine."""
