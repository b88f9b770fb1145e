"""Tools for your own faces and models: measure models, set thresholds, compare photographs, make sets.

What belongs here: what people use outside the study. What does not: anything that a study needs. To add a command,
write its function in the module that it belongs to and add it to ``model_commands`` or ``folder_commands``.
"""
