from .options import BundleOptions as BundleOptions
from .run import BundleResult as BundleResult
from .run import evaluate_bundle as evaluate_bundle
from .run import infer_bundle as infer_bundle
from .run import train_bundle as train_bundle
from .script import export_bundle as export_bundle
