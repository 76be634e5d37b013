"""nnU-Net in an environment of its own, as the tests of layouts have it."""

from tests.layouts.conftest import nnunet_python

__all__ = ["nnunet_python"]
