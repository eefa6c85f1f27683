"""Tests and benchmarks; a package, because torch-fidelity installs one of this name."""
