"""Scores by the published protocols."""
