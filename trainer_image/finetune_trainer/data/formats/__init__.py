"""One file per shape of rows."""
