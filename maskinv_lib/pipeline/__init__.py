"""One run: its faces, its network, its training, its evaluation, and the files that these write.

What belongs here: code that combines the packages before it for a single run. What does not: comparisons of several
runs (``reports``). To add a kind of run, add its training to ``train`` and its templates to ``models``.
"""
