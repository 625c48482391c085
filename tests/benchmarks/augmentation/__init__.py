"""What frozen augmentation costs, in parts.

__main__.py   the command: train what is left, report what is there
study.py      the arms, and how they are trained
data.py       CamVid in memory, and the latents of picks
draws.py      an arm's stream of picks
exam.py       the measures of a model
training.py   one run of an arm
pool.py       latents that are encoded once, for all lossy arms
costs.py      bytes and seconds of stored and fresh draws
plot.py       the picture
"""
