"""MANY runs side by side: comparisons, tables, figures, explanations for the notebooks, and published results.

What belongs here: whatever people read. What does not: computing error rates (``evaluation``). To add a figure, write
a function in ``figures`` and call it in a notebook, followed by how to read it.
"""
