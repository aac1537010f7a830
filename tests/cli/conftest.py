"""Fixtures of the command line."""

from segmenting import calls

__all__ = ["calls"]
