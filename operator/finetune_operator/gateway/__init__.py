"""The status gateway: takes progress pushes from trainer pods and writes the newest into status, sparingly."""
