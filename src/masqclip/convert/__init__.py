"""Published checkpoints to this model's layout: pure functions from dict to dict."""
