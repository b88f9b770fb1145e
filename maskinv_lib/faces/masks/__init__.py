"""Drawn masks: ``drawing`` draws one on every face of a batch, ``shapes`` contains the kinds as textures.

What belongs here: the masks and their position. What does not: which faces get a mask (training and benchmarks decide).
To add a kind, add a ``Shape`` to ``shapes.SHAPES`` and its name to a family in ``drawing.KINDS``.
"""
