"""Owns MONAI bundles as they are: their own configurations run by monai.bundle, watched from outside."""

from voxflow.bundle.options import BundleOptions
from voxflow.bundle.run import BundleResult, evaluate_bundle, infer_bundle, train_bundle
from voxflow.bundle.script import export_bundle

__all__ = ["BundleOptions", "BundleResult", "evaluate_bundle", "export_bundle", "infer_bundle", "train_bundle"]
