"""Class-agnostic masks: the proposer protocol and its adapters."""
