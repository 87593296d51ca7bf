"""The trainer and the evaluator of a FineTuneJob: data → train → save, then evaluate → report."""

__version__ = "0.1.0"
