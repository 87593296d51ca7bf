"""Installs the project in a cluster and runs the demo there: the embedded cluster or any other."""
