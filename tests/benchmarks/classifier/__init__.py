"""The flow's UNet as an ordinary classifier of pixels, in parts.

__main__.py   the command: train what is left, score, print the table
network.py    the UNet with logits for its output
training.py   one seed: a bare loop that resumes
exam.py       scores of masks, by pixel and by window
costs.py      floating-point operations
"""
