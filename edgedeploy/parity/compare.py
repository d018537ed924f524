"""Statistics of an artifact's outputs against the float model's, one sample at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgedeploy.errors import Diagnostic
from edgedeploy.parity.evaluation import OutputComparison

RTOL = 1e-3
ATOL = 1e-3


class OutputStatistics:
    """Collects one output; memory does not grow with the samples."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._dtype = ""
        self._samples = self._elements = self._mismatches = 0
        self._nonfinite = self._nonfinite_reference = 0
        self._outside = self._rows = self._agreeing = 0
        self._max_abs = self._sum_abs = self._sum_error = 0.0
        self._sum_found = self._sum_reference = self._sum_product = 0.0
        self._low, self._high = math.inf, -math.inf
        self._cosine_sum, self._cosine_count, self._cosine_min = 0.0, 0, math.inf
        self._worst: tuple[float, float, str] | None = None
        self._findings: dict[str, Diagnostic] = {}

    def add(self, sample: str, found: np.ndarray, reference: np.ndarray) -> None:
        """Take in one sample's output and the float model's."""
        self._samples += 1
        self._dtype = self._dtype or found.dtype.name
        if found.shape != reference.shape:
            self._mismatches += 1
            self._note(
                "E291",
                f"output '{self._name}' has shape {list(found.shape)} and the float model's "
                f"{list(reference.shape)}, first at sample {sample}",
                "Fix the dims in the profile, or judge the model by its metric.",
            )
            return
        if found.dtype.kind in "OUS" or reference.dtype.kind in "OUS":
            self._elements += found.size
            self._outside += int((found.astype(str) != reference.astype(str)).sum())
            return
        self._agree(found, reference)
        a, b = found.reshape(-1).astype(np.float64), reference.reshape(-1).astype(np.float64)
        finite = np.isfinite(b)
        self._nonfinite_reference += int(b.size - finite.sum())
        broken = finite & ~np.isfinite(a)
        if broken.any():
            self._nonfinite += int(broken.sum())
            self._note(
                "E292",
                f"output '{self._name}' has {int(broken.sum())} values that are NaN or infinite "
                f"where the float model's are finite, first at sample {sample}",
                "Keep the nodes that overflow in float (`keep_float`).",
            )
        kept = finite & np.isfinite(a)
        self._accumulate(sample, a[kept], b[kept])

    def _note(self, code: str, message: str, hint: str) -> None:
        self._findings.setdefault(
            code, Diagnostic(code=code, message=message, subject=self._name, hint=hint)
        )

    def _agree(self, found: np.ndarray, reference: np.ndarray) -> None:
        if found.ndim in (2, 3) and found.shape[-1] > 1 and found.dtype.kind == "f" and found.size:
            same = found.argmax(axis=-1) == reference.argmax(axis=-1)
            self._rows += same.size
            self._agreeing += int(same.sum())

    def _accumulate(self, sample: str, a: np.ndarray, b: np.ndarray) -> None:
        if a.size == 0:
            return
        error = np.abs(a - b)
        largest = float(error.max())
        self._elements += a.size
        self._max_abs = max(self._max_abs, largest)
        self._sum_abs += float(error.sum())
        self._outside += int((error > ATOL + RTOL * np.abs(b)).sum())
        self._low, self._high = min(self._low, float(b.min())), max(self._high, float(b.max()))
        squares = float(a @ a), float(b @ b), float(a @ b)
        self._sum_error += float(error @ error)
        self._sum_found += squares[0]
        self._sum_reference += squares[1]
        self._sum_product += squares[2]
        # The cosine of single numbers is only their sign: no measure of a sample.
        own = _cosine(*squares) if a.size > 1 else None
        if own is not None:
            self._cosine_sum += own
            self._cosine_count += 1
            self._cosine_min = min(self._cosine_min, own)
        rank = (1.0 if own is None else own, -largest, sample)
        if self._worst is None or rank < self._worst:
            self._worst = rank

    def result(self) -> OutputComparison:
        """Return the statistics over all samples so far."""
        text = self._dtype in ("object", "str")
        n = 0 if text else self._elements
        some = self._cosine_count
        return OutputComparison(
            name=self._name,
            dtype=self._dtype,
            samples=self._samples,
            elements=self._elements,
            max_abs=self._max_abs if n else None,
            mean_abs=self._sum_abs / n if n else None,
            rmse=math.sqrt(self._sum_error / n) if n else None,
            reference_low=self._low if n else None,
            reference_high=self._high if n else None,
            cosine=_cosine(self._sum_found, self._sum_reference, self._sum_product) if n else None,
            cosine_mean=self._cosine_sum / some if some else None,
            cosine_min=self._cosine_min if some else None,
            worst_sample=self._worst[2] if self._worst and self._max_abs > 0 else None,
            sqnr_db=10 * math.log10(self._sum_reference / self._sum_error)
            if self._sum_reference > 0 and self._sum_error > 0
            else None,
            top1_agreement=self._agreeing / self._rows if self._rows else None,
            outside_tolerance=self._outside / self._elements if self._elements else None,
            nonfinite=self._nonfinite,
            nonfinite_reference=self._nonfinite_reference,
            shape_mismatches=self._mismatches,
        )

    @property
    def findings(self) -> tuple[Diagnostic, ...]:
        """What is wrong beyond numbers: shapes (E291), non-finite values (E292)."""
        return tuple(self._findings[code] for code in sorted(self._findings))


def _cosine(found: float, reference: float, product: float) -> float:
    """Return the cosine from sums of squares and products; exactly 1 where both are the same."""
    if found == reference == product:
        return 1.0
    if found == 0 or reference == 0:
        return 0.0
    return max(-1.0, min(1.0, product / math.sqrt(found) / math.sqrt(reference)))


class Comparer:
    """Compares all outputs of a run with the float model's, sample by sample."""

    def __init__(self) -> None:
        self._outputs: dict[str, OutputStatistics] = {}
        self._missing: dict[str, Diagnostic] = {}

    def add(
        self, sample: str, found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
    ) -> None:
        """Take in the outputs of one sample; an output that is missing becomes a finding."""
        for name, wanted in reference.items():
            if name in found:
                self._outputs.setdefault(name, OutputStatistics(name)).add(
                    sample, found[name], wanted
                )
            else:
                self._missing[name] = Diagnostic(
                    code="E293",
                    message=f"the artifact does not give the float model's output '{name}'",
                    subject=name,
                    hint="Report this: a backend must keep the names of outputs.",
                )

    def results(self) -> tuple[OutputComparison, ...]:
        """Return the statistics by output, in the order of the float model's outputs."""
        return tuple(item.result() for item in self._outputs.values())

    def findings(self) -> tuple[Diagnostic, ...]:
        """Return all findings."""
        found = [item for output in self._outputs.values() for item in output.findings]
        return (*self._missing.values(), *found)
