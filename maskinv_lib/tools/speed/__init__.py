"""The benchmark of ``bench``: how fast the library is on this machine, against the same work written the obvious way.

What belongs here: measurements of the library's own functions, the plain baselines that they are compared with, and
the table of the results. What does not: anything that the library itself uses, and copies of what is measured. To add
a measurement, add a task to the module of its kind; ``whole`` runs the tasks of all modules in turn.
"""
