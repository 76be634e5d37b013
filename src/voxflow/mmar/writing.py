"""Runs a configuration's writers: each case's volumes when the case is finished, tables at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxflow.components import WriteNifti, Writer, create, get_field

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.components import Sample
    from voxflow.config import Evaluation


@dataclass
class CaseWriters:
    """The writers of a configuration.

    Attributes:
        out: the folder of a writer that names none.
        volumes: writers of a file a case.
        tables: writers of one file for all cases.
        class_names: columns of the tables.
        overwrite: replace what is there.
    """

    out: Path
    volumes: Sequence[WriteNifti] = ()
    tables: Sequence[Writer] = ()
    class_names: Sequence[str] = ()
    overwrite: bool = True
    _rows: list[Sample] = field(default_factory=list)

    @classmethod
    def build(
        cls, evaluation: Evaluation, root: Path, out: Path, class_names: Sequence[str], *, overwrite: bool
    ) -> CaseWriters:
        """Build the writers.

        Args:
            evaluation: names them.
            root: where relative folders begin.
            out: the folder of a writer that names none.
            class_names: of the model.
            overwrite: replace what is there.
        """
        built = [_place_below(create("writer", component), root) for component in evaluation.writers]
        volumes = [writer for writer in built if isinstance(writer, WriteNifti)]
        tables = [writer for writer in built if not isinstance(writer, WriteNifti)]
        return cls(out, volumes, tables, class_names, overwrite)

    def is_done(self, case: str) -> bool:
        """Tell whether nothing is left to write for a case, since all its files are there and must stay.

        Args:
            case: its name. Where a table is written, no case is done before the others.
        """
        if self.overwrite or self.tables or not self.volumes:
            return False
        return all(self._file_path(writer, case).is_file() for writer in self.volumes)

    def write(self, sample: Sample) -> None:
        """Write a case's volumes, and keep what the tables say of it.

        Raises:
            DataError: a field is no volume of one channel, or has values that its type can't hold.
        """
        for writer in self.volumes:
            get_field(sample, writer.field, writer)
            if self.overwrite or not self._file_path(writer, str(sample["case"])).is_file():
                writer.write([sample], self.out, self.class_names)
        if self.tables:
            self._rows.append({"case": sample["case"]} | {w.field: get_field(sample, w.field, w) for w in self.tables})

    def finish(self) -> None:
        """Write the tables."""
        for writer in self.tables:
            folder = getattr(writer, "write_path", "") or self.out
            writer.write(self._rows, self._make_folder(folder), self.class_names)

    def _make_folder(self, folder: Path | str) -> Path:
        path = self.out / folder
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _file_path(self, writer: WriteNifti, case: str) -> Path:
        return self.out / writer.write_path / case / writer.file_name(case)


def _place_below(writer: Writer, root: Path) -> Writer:
    """The writer with its folder absolute."""
    folder = getattr(writer, "write_path", "")
    return writer.model_copy(update={"write_path": (root / folder).as_posix()}) if folder else writer
