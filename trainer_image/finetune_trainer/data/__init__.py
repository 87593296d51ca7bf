"""From raw rows to token ids and labels."""
