"""Drawing masks on pictures."""
