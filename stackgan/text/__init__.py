"""Text encoders: captions in, embeddings (B, T) out."""
