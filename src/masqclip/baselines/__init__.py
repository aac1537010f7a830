"""The systems that the paper compares itself with, on parts of ours: XPM, LSeg+, OpenSeg, MaskCLIP.

Each file is one system: its parts, its loss, its inference. Their stages of training stand in
`masqclip.training.baselines`.
"""
