"""The base model: the embedded one and its pretraining, or a pointer. May import all but evaluation, report, export."""
