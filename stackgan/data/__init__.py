"""Prepared folders, and training batches sampled from them."""
