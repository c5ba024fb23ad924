"""From readings to a verified model: ingest, train, evaluate, package, register, and what devices do with it.

Nothing heavy is imported here: `features` needs numpy, `runtime` adds onnxruntime, the rest scikit-learn and ONNX.
What a project's file needs is here; for the rest import the submodule.
"""

from quietfleet.pipeline.features import Features
from quietfleet.pipeline.head import Autonomy
from quietfleet.pipeline.project import Advice, Channel, Grid, Project, Randomised

__all__ = ["Advice", "Autonomy", "Channel", "Features", "Grid", "Project", "Randomised"]
