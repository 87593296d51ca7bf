"""The ``kubectl finetune`` plugin: watch a FineTuneJob from the command line."""
