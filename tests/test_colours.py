"""Class colours can be told apart, and be read on light and dark pages."""

import pytest

from voxflow.colours import (
    CLASS_COLOURS,
    DARK_PAGE,
    LEAST_CONTRAST,
    LIGHT_PAGE,
    LINE_COLOURS,
    adapt_to_page,
    measure_contrast,
    pick_class_colour,
)


def test_a_hundred_classes_have_a_hundred_colours() -> None:
    colours = [pick_class_colour(number) for number in range(1, 101)]
    assert len(set(colours)) == 100
    assert tuple(colours[:7]) == CLASS_COLOURS


@pytest.mark.parametrize("page", [LIGHT_PAGE, DARK_PAGE])
@pytest.mark.parametrize("colour", [*LINE_COLOURS, *(pick_class_colour(number) for number in range(1, 41))])
def test_every_colour_can_be_read_on_a_page(colour: str, page: str) -> None:
    assert measure_contrast(adapt_to_page(colour, page), page) >= LEAST_CONTRAST
