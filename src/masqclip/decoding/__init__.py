"""Masks and class log-probabilities to semantic, instance and panoptic results."""
