from .classification import evaluate_classification as evaluate_classification
from .reports import FAILED_REMARK as FAILED_REMARK
from .reports import write_dice_report as write_dice_report
from .segmentation import EvaluateOptions as EvaluateOptions
from .segmentation import EvaluationResult as EvaluationResult
from .segmentation import evaluate_segmentation as evaluate_segmentation
