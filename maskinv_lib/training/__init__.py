"""How a student learns: the views of a batch, the objectives, the one training loop, and heads on frozen templates.

What belongs here: everything that changes weights. What does not: the settings of each stage (``study``), and the
files of a run (``pipeline``). To add an objective, add a file to ``objectives``.
"""
