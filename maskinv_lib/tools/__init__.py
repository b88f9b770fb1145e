"""Tools for your own faces and models: compare photographs, find shared people, make sets, check a data folder.

What belongs here: what people use outside the study. What does not: anything that a study needs. To add a command,
write its function in the module that it belongs to and add it to ``model_commands`` or ``folder_commands``.
"""
