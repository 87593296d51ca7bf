"""TRL and Unsloth: the general engine."""
