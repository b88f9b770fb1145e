"""From templates to numbers: benchmarks, error rates, their intervals, and the verdicts that rest on them.

What belongs here: whatever turns comparisons into numbers and verdicts. What does not: tables and figures
(``reports``). To add a metric, add it to ``metrics.measure``, and to ``evaluate`` if it is to have an interval.
"""
