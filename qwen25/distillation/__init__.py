"""Token states -> a static model: settings, vocabulary, frequencies, recipe, vectors, and the pipeline.

From Python::

    from qwen25.distillation import Settings, distil

    metadata = distil(Settings(teacher="path/to/folder", output=Path("models/mine"), dims=512))
"""

from qwen25.distillation.pipeline import distil, plan
from qwen25.distillation.settings import PRESETS, Settings

__all__ = ["PRESETS", "Settings", "distil", "plan"]
