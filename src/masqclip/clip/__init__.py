"""Masked CLIP classification: the MasQ tower, text and vocabularies."""
