"""The data of a workspace as the check knows it: the datalist, its files' headers, the names of its classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.files import read_text
from voxflow.lint.files import ImageHeaders
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.lint.headers import ImageHeader
    from voxflow.lint.listing import LenientDatalist, ListedCase


@dataclass
class WorkspaceData:
    """The data of a workspace, as far as it is known.

    Attributes:
        listing: the datalist of training, or else of validation; None where there is none to read.
        images: the headers of its files.
        sections: the cases that "train", "validate" and "evaluate" read; absent where nothing tells.
        class_names: names in order of the label values, or of the findings; empty where nothing tells.
        classes_from: where the names stand, for messages.
    """

    listing: LenientDatalist | None = None
    images: ImageHeaders = field(default_factory=ImageHeaders)
    sections: dict[str, list[ListedCase]] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    classes_from: str = ""

    def items(self, section: str) -> list[ListedCase]:
        """The cases that a section reads."""
        return self.sections.get(section, [])

    def grids(self, section: str) -> list[tuple[ListedCase, ImageHeader]]:
        """The cases of a section whose header is known."""
        return self.images.list_first_headers(self.items(section))

    def channels(self, section: str) -> dict[str, int]:
        """Count the channels of image and label once they are loaded; a field is absent where its cases differ."""
        counts = {len(item.images) * header.channels for item, header in self.grids(section)}
        labels = {header.channels for item in self.items(section) if (header := self.images.header(item.label))}
        counts_by_field = {"image": counts, "label": labels}
        return {name: next(iter(numbers)) for name, numbers in counts_by_field.items() if len(numbers) == 1}

    def read_classes(self, labels: Path | None) -> None:
        """Take the class names from the stages' labels.json where it exists, else from the datalist.

        Args:
            labels: labels.json; None: there is none.
        """
        try:
            content = parse_json("" if labels is None else read_text(labels))
            names = content["findings"] if "findings" in content else {int(key): name for key, name in content.items()}
            self.class_names, self.classes_from = _order_names(names), "names in labels.json"
        except (OSError, DataError, ValueError, TypeError, AttributeError):
            if self.listing is None:
                return
            if self.listing.label_format:
                count = len(self.listing.label_format)
                names = [self.listing.labels.get(n, f"finding_{n}") for n in range(count)]
                self.class_names, self.classes_from = tuple(names), f"label_format of {self.listing.path.name}"
            elif self.listing.labels:
                self.class_names = _order_names(self.listing.labels)
                self.classes_from = f"labels of {self.listing.path.name}"


def _order_names(names: dict[int, str] | list[str]) -> tuple[str, ...]:
    if isinstance(names, list):
        return tuple(map(str, names))
    if not names or not 0 <= min(names) <= max(names) < 10_000:
        return ()
    return tuple(str(names.get(value, f"class_{value}")) for value in range(max(names) + 1))
