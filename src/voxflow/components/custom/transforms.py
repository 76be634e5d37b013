"""A user's own transforms: callables on a sample."""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from voxflow.components.custom.base import CustomComponent, adapts, copy_sample, takes_argument, to_arrays
from voxflow.components.custom.code import load_class, read_constants
from voxflow.components.transforms.base import LABEL, Draw, RandomTransform, Sample, Transform

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from voxflow.components.custom.code import LocatedClass
    from voxflow.components.registry import Kind

# Names by which code draws at random; a class that uses one is never run once and kept.
HIGHEST_TRIED = 16
_CHANCE = frozenset(("random", "rand", "randn", "randint", "randperm", "default_rng", "RandomState", "Randomizable"))


class _TransformObject(CustomComponent):
    """A user's object that is made once, and called for each sample from several threads."""

    kind: ClassVar[Kind] = "transform"
    _object: Any = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Make the user's object; not at each call, since a constructor may read files."""
        super().model_post_init(context)
        self._object = self.make()

    def for_field(self, name: str) -> dict[str, Any] | None:
        """Return the arguments with that field alone.

        Returns:
            None where the arguments name other fields; all arguments where they name none, since it may change every
            field.
        """
        for key in ("fields", "field", "keys"):
            value = self.arguments.get(key)
            if value is not None:
                names = [value] if isinstance(value, str) else list(value)
                alone = name if isinstance(value, str) else [name]
                return {**self.arguments, key: alone} if name in names else None
        return dict(self.arguments)


@adapts("transform")
class CustomTransform(_TransformObject, Transform):
    """A callable on the sample: a dict of NumPy arrays, axes (channel, ...spatial); it returns the sample."""

    @classmethod
    def fit(cls, located: LocatedClass, path: str, custom: Path) -> type[CustomComponent]:
        """The adapter for random transforms where the class draws at random."""
        return CustomRandomTransform if _is_random(located, path, custom) else cls

    def list_regions(self, values: Collection[int]) -> Mapping[str, tuple[int, ...]]:
        """Try each label value: one that turns it into several masks makes regions, named by their values ("1+4")."""
        tried = np.arange(max(values, default=HIGHEST_TRIED) + 1, dtype=np.uint8)[None, None, None]
        try:
            label = self({"image": np.zeros(tried.shape, np.float32), LABEL: tried})[LABEL]
        except Exception:  # noqa: BLE001 (it may need what only a case has: it is then no transform of labels alone)
            return {}
        masks = np.asarray(label)
        if masks.ndim != tried.ndim or len(masks) < 2 or masks.shape[1:] != tried.shape[1:] or masks[..., 0].any():
            return {}
        members = [tuple(np.flatnonzero(mask.ravel()).tolist()) for mask in masks]
        members = [tuple(value for value in member if value in (values or member)) for member in members]
        return {"+".join(map(str, member)): member for member in members} if all(members) else {}

    def __call__(self, sample: Sample) -> Sample:
        """Return the transformed sample."""
        transformed = self.guard(self._object, copy_sample(sample))
        if not isinstance(transformed, dict):
            raise self.wrong_answer(transformed, "the sample, a dict")
        return to_arrays(transformed)


class CustomRandomTransform(_TransformObject, RandomTransform):
    """A random callable on the sample: it takes the generator as ``rng``, or is MONAI's Randomizable.

    Such a class repeats itself for a seed. One that draws from the global ``random`` or ``numpy.random`` works
    and does not.
    """

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the seed of everything that the user's object draws.

        Returns:
            "seed": 32 bits.
        """
        return {"seed": int(rng.integers(2**32))}

    def apply(self, sample: Sample, parameters: Draw) -> Sample:
        """Return the transformed sample."""
        samples = self._transform(sample, parameters["seed"])
        if len(samples) != 1:
            raise self.wrong_answer(samples, "one sample")
        return samples[0]

    def run(self, sample: Sample, rng: np.random.Generator) -> list[Sample]:
        """Return what comes out of one sample.

        Returns:
            As many samples as the user's object returns.
        """
        return self._transform(sample, self.draw(sample, rng)["seed"])

    def _transform(self, sample: Sample, seed: int) -> list[Sample]:
        result = self.guard(self._call, copy_sample(sample), seed)
        samples = result if isinstance(result, list) else [result]
        if not all(isinstance(item, dict) for item in samples):
            raise self.wrong_answer(result, "the sample, a dict, or a list of samples")
        return [to_arrays(item) for item in samples]

    def _call(self, sample: Sample, seed: int) -> Any:
        if hasattr(self._object, "set_random_state"):
            # Its state is its own, and other threads use the same object.
            replica = copy.deepcopy(self._object)
            replica.set_random_state(seed=seed)
            return replica(sample)
        if takes_argument(type(self._object).__call__, "rng"):
            return self._object(sample, rng=np.random.default_rng(seed))
        return self._object(sample)


def _is_random(located: LocatedClass, path: str, custom: Path) -> bool:
    """Whether a transform draws at random: it says so, takes a generator, is Randomizable, or names chance."""
    declared = read_constants(located).get("random")
    if isinstance(declared, bool):
        return declared
    custom_class = load_class(path, custom)
    if hasattr(custom_class, "set_random_state") or takes_argument(getattr(custom_class, "__call__", None), "rng"):  # noqa: B004
        return True
    nodes = list(ast.walk(located.node))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return not _CHANCE.isdisjoint(names | {node.attr for node in nodes if isinstance(node, ast.Attribute)})
