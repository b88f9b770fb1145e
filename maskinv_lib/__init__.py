"""MaskInv: masked face recognition by template-level knowledge distillation, as a study that can be re-run.

The packages, in the order in which they build on each other, which is also a good order to read them in:

    utils < study < faces < networks < training, evaluation < pipeline < reports < tools < __main__

A package imports only from packages before it, and no two files import each other. What belongs into a package, what
does not and how to add something is said at the top of its ``__init__.py``.
"""

__version__ = "0.1.0"
