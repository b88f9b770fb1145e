"""The results of many runs compared: tables, figures and explanations for the notebooks, and published results.

What belongs here: everything that people read. What does not: computing error rates (``evaluation``). To add a figure,
write a function in ``figures`` and call it in a notebook, followed by a text that explains how to read it.
"""
