"""MaskInv: masked face recognition by template-level knowledge distillation, as a study that can be re-run.

The rooms, in the order in which faces walk through them (each imports only from rooms before it):
checks, files, randomness, populations, recipes, fingerprints, faces, mask_shapes, masks, networks, templates,
objectives, checkpoints, views, training, adapting, combining, benchmarks, metrics, resampling, evaluation, uncertainty,
verdicts, rankings, planning, figures, explain, places, stages, systems, ladders, study, and last the doors: records,
sources, models, pipeline, photographs, verification, shared_people, own_sets, exporting,
catalogue, tables, jobs, comparison, sections, choices, progress, running, publishing, commands, __main__.
"""

__version__ = "0.1.0"
