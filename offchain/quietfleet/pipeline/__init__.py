"""From readings to a verified model: ingest, train, evaluate, package, register, and what devices do with it.

Nothing heavy is imported here: `features` needs numpy, `runtime` adds onnxruntime, the rest scikit-learn and ONNX.
Import the submodule you need.
"""
