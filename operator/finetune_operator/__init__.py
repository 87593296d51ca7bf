"""The operator: FineTuneJob objects become Jobs, and what their pods report becomes status."""
