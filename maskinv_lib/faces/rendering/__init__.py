"""Rendered people: a face is a pure function of (seed, person, view). Start with ``synthetic``.

What belongs here: all that computes pixels from these numbers. What does not: masks, which are drawn on any face.
To add a kind of variation, give it a strength in ``synthetic.Rendering`` and its parameters in ``anatomy``.
"""
