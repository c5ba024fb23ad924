"""Linear models as ONNX, thousands of them: one is converted the long way, the others are it with other numbers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quietfleet.errors import ModelRejected, PackagingError
from quietfleet.pipeline.onnx_guard import guard
from quietfleet.pipeline.package import to_onnx

_NUMBERS: Final = ("offset", "scale", "coefficients", "intercepts")


class LinearTemplate:
    """`((row - offset) / scale) @ weights + intercept` for rows of so many features."""

    def __init__(self, width: int) -> None:
        rows = np.eye(2, width, dtype=np.float32)
        self._model = onnx.load_from_string(to_onnx(make_pipeline(StandardScaler(), Ridge()).fit(rows, [0, 1]), width))
        places = {each.name: each for node in self._model.graph.node for each in node.attribute}
        try:
            self._places: list[Any] = [places[name].floats for name in _NUMBERS]
        except KeyError as error:
            raise PackagingError(f"the converter writes linear models without {error}") from error

    def fill(self, offset: Any, scale: Any, weights: Any, intercept: float) -> bytes:
        """Return the ONNX bytes of one model; `PackagingError` when it would not pass a device's guard."""
        for place, numbers in zip(self._places, (offset, 1 / np.asarray(scale), weights, [intercept]), strict=True):
            place[:] = np.asarray(numbers, dtype=np.float32)
        artifact: bytes = self._model.SerializeToString()
        try:
            guard(artifact)
        except ModelRejected as error:
            raise PackagingError(str(error)) from error
        return artifact

    def column(self, place: int, width: int) -> bytes:
        """Return the model that says what a feature says: persistence, where the row holds it."""
        one: npt.NDArray[np.float32] = np.eye(1, width, place, dtype=np.float32)[0]
        return self.fill(np.zeros(width), np.ones(width), one, 0.0)
