"""The FineTuneJob controller: observe, plan, act, and the status that it writes."""
