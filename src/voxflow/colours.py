"""The colours of classes and of lines: pictures, DICOM SEG and pages take them from here, so that they agree.

A class keeps one colour everywhere: that of its label value, or of its position where classes overlap. The first seven
are Okabe and Ito's, which colour-blind people can tell apart; they are meant for grey images on black. Text and lines
on a page take the same hue, darker or lighter, until it can be read there.
"""

from __future__ import annotations

import colorsys

CLASS_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
# Lines of charts that stand for no class, such as losses.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#4B4B4B", "#56B4E9")
# Where a picture colours masks by who drew them: the label, the prediction, a further prediction.
SOURCE_COLOURS = ("#56B4E9", "#E69F00", "#CC79A7")
LIGHT_PAGE, DARK_PAGE = "#FFFFFF", "#171C24"
LEAST_CONTRAST = 4.5  # of text, WCAG 2.2, 1.4.3
GOLDEN = 0.6180339887  # turns that never come back to the same hue


def pick_class_colour(number: int) -> str:
    """Pick the colour of a class as ``#RRGGBB``.

    Args:
        number: its label value, or its position where classes overlap; both count from 1.

    Example:
        >>> pick_class_colour(1), pick_class_colour(2), pick_class_colour(8)
        ('#E69F00', '#56B4E9', '#EC799F')
    """
    if 1 <= number <= len(CLASS_COLOURS):
        return CLASS_COLOURS[number - 1]
    hue, lightness = number * GOLDEN % 1, (0.46, 0.58, 0.7)[number % 3]
    return format_rgb(*(round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.75)))


def parse_rgb(colour: str) -> tuple[int, int, int]:
    """Parse ``#RRGGBB`` into three numbers from 0 to 255."""
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return red, green, blue


def format_rgb(red: int, green: int, blue: int) -> str:
    """Format three numbers from 0 to 255 as ``#RRGGBB``."""
    return f"#{red:02X}{green:02X}{blue:02X}"


def measure_contrast(first: str, second: str) -> float:
    """Measure the contrast of two colours as WCAG 2.2 defines it, from 1 to 21.

    Example:
        >>> measure_contrast("#000000", "#FFFFFF")
        21.0
    """
    low, high = sorted(_measure_luminance(colour) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def adapt_to_page(colour: str, page: str) -> str:
    """Darken or lighten a colour until text in it can be read on a page.

    Args:
        colour: as ``#RRGGBB``.
        page: the colour of the page, :data:`LIGHT_PAGE` or :data:`DARK_PAGE`.

    Example:
        >>> adapt_to_page("#0072B2", LIGHT_PAGE), adapt_to_page("#F0E442", LIGHT_PAGE)
        ('#0072B2', '#7D7722')
    """
    end = 0 if _measure_luminance(page) > 0.5 else 255
    adapted = colour
    for step in range(1, 26):
        if measure_contrast(adapted, page) >= LEAST_CONTRAST:
            break
        adapted = format_rgb(*(round(part + (end - part) * step / 25) for part in parse_rgb(colour)))
    return adapted


def _measure_luminance(colour: str) -> float:
    parts = (part / 255 for part in parse_rgb(colour))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
