"""Fills the templates of pages; apart from what a report shows, which a stage with its own page need not reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.colours import DARK_PAGE, LIGHT_PAGE, LINE_COLOURS, adapt_to_page, pick_class_colour
from voxflow.reporting.charts import MOST_CLASSES
from voxflow.tables import escape_cell

if TYPE_CHECKING:
    from collections.abc import Mapping


def render_template(template: str, facts: Mapping[str, Any]) -> str:
    """Fill one of this package's templates.

    Args:
        template: the file's name below ``templates/``; in ``*.html.j2`` every value is escaped.
        facts: by the template's names.

    Raises:
        jinja2.UndefinedError: the template uses a name that ``facts`` lacks.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("voxflow.reporting"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = escape_cell
    # Each for a light and for a dark page.
    class_colours = tuple(pick_class_colour(number) for number in range(1, MOST_CLASSES + 1))
    for name, colours in (("line_colours", LINE_COLOURS), ("class_colours", class_colours)):
        environment.globals[name] = [tuple(adapt_to_page(c, page) for page in (LIGHT_PAGE, DARK_PAGE)) for c in colours]
    return environment.get_template(template).render(facts)
