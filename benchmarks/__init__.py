"""Measures tunefork against its peers: the same rows, model and steps, side by side in one run.

Entry points: `python -m benchmarks.sft`, `python -m benchmarks.full`; `make bench` sets up the
peers first. Not shipped in the wheel. How to read the results: `benchmarks/README.md`.
"""
