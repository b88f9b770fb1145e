"""Small helpers that know nothing of faces: checks of input, files written whole, folders, random numbers, code hashes.

What belongs here: functions that any package may call. What does not: anything that knows what a face, a stage or a
result is. To add a helper, put it into the module of its kind.
"""
