"""The prepared folder, and the batches that training draws from it."""
