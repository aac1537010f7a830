"""A model as ONNX graphs whose words stay free: what `masqclip export` writes.

refusals.py     what can be exported, and what not
modules.py      the three graphs as modules
square.py       proposers that see a square
traceable.py    what of other libraries is bound to one size, made open
tracing.py      a module traced into a graph
storage.py      how weights are stored: halves, eighths, files beside a graph
description.py  what the folder says of itself
export.py       the whole
"""
