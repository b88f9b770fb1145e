"""Small helpers for every package: checks of input, atomic file writes, folders, random numbers, code hashes.

What belongs here: functions that any package may call. What does not: anything that knows what a face, a stage or a
result is. To add a helper, put it into the module of its kind.
"""
