"""Drawn masks: ``drawing`` puts one on every face of a batch, ``shapes`` holds the kinds as textures.

What belongs here: the masks and where they sit. What does not: who gets a mask, which training and benchmarks decide.
To add a kind, add a ``Shape`` to ``shapes.SHAPES`` and its name to a family in ``drawing.KINDS``.
"""
