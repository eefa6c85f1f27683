"""Data preparation: CUB, one's own photos, or painted birds in; a prepared folder (`stackgan.prepared`) out."""
