"""A user's own writers: callables that write one case."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.components.custom.base import CustomComponent, adapts, copy_sample
from voxflow.components.writers import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxflow.components.transforms.base import Sample


@adapts("writer")
class CustomWriter(CustomComponent, Writer):
    """A callable (sample, folder) that writes one case and returns the files that it wrote, if any.

    Attributes:
        field: what is written, where the class says so.
    """

    field: str = "model"

    def write(self, samples: Iterable[Sample], out: Path, class_names: Sequence[str] = ()) -> list[Path]:
        """Hand on one case after the other."""
        writer = self.make(field=self.field)
        paths: list[Path] = []
        for sample in samples:
            files = self.guard(writer, copy_sample(sample), out)
            paths += [Path(file) for file in ([files] if isinstance(files, str | Path) else files or ())]
        return paths
