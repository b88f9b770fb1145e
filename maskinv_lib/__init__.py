"""MaskInv: masked face recognition by template-level knowledge distillation, as a study that can be re-run.

The rooms, in the order in which faces walk through them (each imports only from rooms before it):
checks, files, randomness, recipes, fingerprints, faces, mask_shapes, masks, networks, templates, objectives,
checkpoints, training, benchmarks, metrics, resampling, evaluation, uncertainty, verdicts, figures, explain, places,
ladders, study, and last the doors: records, pipeline, photographs, verification, shared_people, own_sets, exporting,
catalogue, tables, jobs, comparison, choices, progress, running, publishing, commands, __main__.
"""

__version__ = "0.1.0"
