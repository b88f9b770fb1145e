"""WHAT is run, as data: methods, profiles, people, the run of one method with one seed, and the jobs of a whole study.

What belongs here: settings and plans that need no torch to be read, because the workflow reads them at every job.
What does not: anything that touches pixels, networks or scores. To add a rung, add an entry to ``ablation``; another
method, to ``methods``; a profile, to ``profiles``; a benchmark of real people, to ``BENCHMARKS`` of ``profiles``.
"""
