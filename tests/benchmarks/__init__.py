"""Speed, measured as ratios: ``python -m tests.benchmarks.{generation,train,data,cold_start,scaling}``."""
