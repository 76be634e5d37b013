"""Area under the ROC curve of a classifier's findings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import NonNegativeInt  # noqa: TC002 (pydantic reads annotations at run time)

from voxflow.components.label_format import encode_one_vs_rest, read_label_format
from voxflow.components.metrics.base import Metric, Outputs
from voxflow.components.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)


@register("metric")
class ComputeAUC(Metric):
    """Area under the ROC curve of one finding, or averaged over all.

    A finding that is the same in every case has no AUC: its own number is NaN, the average leaves it out, and a
    line of the log names it.

    Attributes:
        label_field: the findings, 0 or 1; negative: unknown.
        class_index: the finding; left out: the average over all.
        auc_average: "macro": the mean of the findings' AUC; "micro": one AUC over all pairs at once;
            "weighted": the mean weighted by how often each finding is present.
        include_list: the findings that are averaged; left out: all.
    """

    label_field: str = "label"
    class_index: NonNegativeInt | None = None
    auc_average: Literal["macro", "micro", "weighted"] = "macro"
    include_list: tuple[NonNegativeInt, ...] | None = None

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Return the scores and labels of one batch.

        Returns:
            (2, batch, finding): scores first; columns of several classes count as one finding a class.
        """
        scores, labels = np.asarray(outputs[self.field], float), np.asarray(outputs[self.label_field], float)
        if scores.shape != labels.shape:
            labels = encode_one_vs_rest(labels, read_label_format(outputs, labels))
        return np.stack([scores, labels])

    def summarise(self, batches: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """Return the area under the ROC curve over all batches, under ``name``.

        Args:
            batches: (2, batch, finding) each.
            class_names: for the line of the log that names findings without an AUC.

        Raises:
            ValueError: ``class_index`` or ``include_list`` names a finding that is not there.
        """
        scores, labels, findings = self._select_findings(batches)
        if self.auc_average == "micro" and self.class_index is None:
            return {self.name: compute_auc(scores.ravel(), labels.ravel())}
        auc = np.array([compute_auc(score, label) for score, label in zip(scores.T, labels.T, strict=True)])
        defined = ~np.isnan(auc)
        self._report([n for n, is_defined in zip(findings, defined, strict=True) if not is_defined], class_names)
        weights = (labels == 1).sum(0) if self.auc_average == "weighted" else np.ones(len(auc))
        mean = float(np.average(auc[defined], weights=weights[defined])) if defined.any() else np.nan
        return {self.name: mean}

    def _select_findings(self, batches: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any], list[int]]:
        scores, labels = np.concatenate(batches, axis=1)
        if self.class_index is not None:
            findings = [self.class_index]
        else:
            findings = list(range(scores.shape[1]) if self.include_list is None else self.include_list)
        if max(findings) >= scores.shape[1]:
            raise ValueError(f"{self.name}: there is no finding {max(findings)}; {scores.shape[1]} are known, 0 first")
        return scores[:, findings], labels[:, findings], findings

    def _report(self, undefined: list[int], class_names: Sequence[str]) -> None:
        if undefined:
            names = ", ".join(class_names[n] if n < len(class_names) else f"finding {n}" for n in undefined)
            _log.warning("%s: no AUC for %s, the same in every case; left out of the average", self.name, names)


def compute_auc(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve: how probably a case with the finding scores above one without.

    Args:
        scores: (case,); equal ones count half.
        labels: (case,): 1 with the finding, 0 without it, negative where it is unknown, which is left out.

    Returns:
        From 0 to 1; NaN when no case has the finding, or every one.

    Example:
        >>> compute_auc(np.array([0.1, 0.4, 0.8]), np.array([0.0, 0.0, 1.0]))
        1.0
    """
    from scipy.stats import rankdata

    is_known = labels >= 0
    scores, present = scores[is_known], labels[is_known] > 0.5
    positives, negatives = int(present.sum()), int((~present).sum())
    if not positives or not negatives:
        return np.nan
    # By ranks (Mann and Whitney's U), which needs no curve and counts ties half.
    ranks = rankdata(scores)[present].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))
