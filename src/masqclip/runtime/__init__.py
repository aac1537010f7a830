"""An exported model (`masqclip export`) run without PyTorch: onnxruntime, NumPy, tokenizers.

settings.py      what a folder's config.json says
graph_files.py   graphs of strangers, looked at before they are run
sessions.py      graphs, ready to be run in bounded memory
tokens.py        names as tokens
names.py         names as embeddings
frames.py        pictures as the proposer takes them
masks.py         mask logits at the picture's size
decoding/...     instance, semantic, panoptic
encoded.py       a picture after the graphs have seen it
segmenter.py     `OnnxSegmenter`
"""

from __future__ import annotations

from masqclip.runtime.segmenter import OnnxSegmenter

__all__ = ["OnnxSegmenter"]
