"""Fork a model, tune it on your data, prove it is better: all on your own machine."""

__version__ = "0.1.0"
