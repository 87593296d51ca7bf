"""Imports what the trainer needs. A fork server that has this module gives each of its processes the libraries."""

from finetune_trainer.training.engines import load_engine

load_engine()
