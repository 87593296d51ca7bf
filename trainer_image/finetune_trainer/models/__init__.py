"""Base models and adapters: loaded, changed, saved."""
