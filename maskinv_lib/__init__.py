"""MaskInv: masked face recognition by template-level knowledge distillation, as a study that can be re-run.

The rooms, in the order in which faces walk through them (each imports only from rooms before it):
checks, files, randomness, recipes, faces, masks, networks, templates, objectives, checkpoints, training,
benchmarks, metrics, uncertainty, figures, study, and last the doors: pipeline, publishing, __main__.
"""

__version__ = "0.1.0"
