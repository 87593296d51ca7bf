"""The contract between users, the operator and the trainer: spec, status, run configuration and results."""
