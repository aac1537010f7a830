"""Weights of anybody's: files of tensors and folders of models, read without trusting them."""
