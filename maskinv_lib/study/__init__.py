"""What is run: methods, profiles, faces, the run of one method with one seed, and the jobs of a whole study.

What belongs here: settings and plans that are read without torch, because the workflow reads them for every job.
What does not: anything that reads pixels, networks or scores. To add a rung, add an entry to ``ablation``; another
method, to ``methods``; a profile, to ``profiles``; a benchmark of real people, to ``BENCHMARKS`` of ``profiles``.
"""
