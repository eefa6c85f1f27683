"""Text encoders: captions -> embeddings (B, T)."""
