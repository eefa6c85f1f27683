"""Data preparation: CUB, own photos or painted birds in, a prepared folder (`stackgan.data.prepared`) out."""
