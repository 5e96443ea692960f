"""A badge of a rating as SVG: one file that loads nothing, reads on light and on dark pages, and is spoken by a screen reader.

Hand-made, since badge libraries know a label and a value, and no stars: five polygons and a few lines of text.
"""

from __future__ import annotations

import math
import unicodedata
from xml.sax.saxutils import escape, quoteattr

from pytest_greencompute.estimates.star_scale import STARS, Rating
from pytest_greencompute.values.units import significant

WIDTH, MARGIN, ROW = 430, 12, 21
TITLE, LEFT, RIGHT = 280, 190, 212  # pixels that text may take: beside the stars, and at either side of the second row
LONGEST = 48  # characters of a model's name that are shown; the title has more
_LONGEST_TITLE = 200
# Contrast with the ground: 16.4, 11.2 and 10.4 to 1; WCAG asks for 4.5 of text and for 3 of the stars.
GROUND, EDGE, STRONG, PLAIN, GOLD = "#17202b", "#8795a6", "#ffffff", "#cfd6de", "#ffc53d"
_FONT = "Verdana, 'DejaVu Sans', Geneva, sans-serif"
# Widths of characters as shares of the font's size, at most those of Verdana, the widest of the fonts.
_WIDE, _CAPITAL, _OTHER = 1.0, 0.79, 0.62


def badge(rating: Rating, model: str = "") -> str:
    """The SVG document of ``rating``, with the model's name where one is given; any text may be in it.

    It says the stars, task, class, Wh of GPU energy per 1,000 queries and the leaderboard's date. Whether a rating deserves a badge
    (``Rating.indicative``) is for the caller to ask.
    """
    model = _printable(model)
    energy = f"{significant(rating.wh_per_1000_queries, 3)} Wh per 1,000 queries"
    task = rating.task.replace("_", " ") + (f", class {rating.model_class}" if rating.model_class else "")
    said = f"AI Energy Score: {rating.stars} of {STARS} stars for {task}, {energy}, leaderboard of {rating.reference}"
    said = _printable(f"{model[:_LONGEST_TITLE]}: {said}" if model else said)
    rows = [
        _text(MARGIN, 1, f"AI Energy Score {rating.reference}", STRONG, TITLE),
        *_stars(rating.stars),
        _text(MARGIN, 2, task, PLAIN, LEFT),
        _text(WIDTH - MARGIN, 2, energy, PLAIN, RIGHT, anchor="end"),
    ]
    if model:
        rows.append(_text(MARGIN, 3, model if len(model) <= LONGEST else f"{model[: LONGEST - 1]}…", PLAIN, WIDTH - 2 * MARGIN))
    height = ROW * (3 if model else 2) + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
            f' role="img" aria-label={quoteattr(said)}>',
            f"<title>{escape(said)}</title>",
            # A ground and an edge of its own, so that neither a light nor a dark page shows through the text.
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6" fill="{GROUND}" stroke="{EDGE}"/>',
            f'<g font-family="{_FONT}" font-size="12">',
            *rows,
            "</g>",
            "</svg>",
            "",
        ]
    )


def _text(x: int, row: int, text: str, colour: str, room: int, *, anchor: str = "start") -> str:
    """A line of text; one that may be too long for its ``room`` (pixels) is squeezed into it."""
    text = _printable(text)
    squeezed = f' textLength="{room}" lengthAdjust="spacingAndGlyphs"' if _width(text) > room else ""
    return f'<text x="{x}" y="{row * ROW + 2}" fill="{colour}" text-anchor="{anchor}"{squeezed}>{escape(text)}</text>'


def _width(text: str, size: int = 12) -> float:
    """About how wide a line of text is, in pixels: rather too wide than too narrow."""
    return size * sum(
        _WIDE if character in "MWmw@%" or unicodedata.east_asian_width(character) in "WF" else _CAPITAL if character.isupper() else _OTHER
        for character in text
    )


def _stars(count: int) -> list[str]:
    """Five stars at the right of the first row, ``count`` of them filled; drawn, since a font may have none."""
    drawn = []
    for index in range(STARS):
        x = WIDTH - MARGIN - 9 - 20 * (STARS - 1 - index)
        fill = GOLD if index < count else "none"
        drawn.append(f'<polygon points="{_star(x, ROW - 3)}" fill="{fill}" stroke="{GOLD}"/>')
    return drawn


def _star(x: float, y: float, size: float = 9.0) -> str:
    """The ten corners of a star around (x, y): every other one lies further in, at the pentagram's ratio."""
    corners = []
    for corner in range(10):
        radius = size if corner % 2 == 0 else size * 0.382
        angle = math.pi * (corner / 5 - 0.5)
        corners.append(f"{x + radius * math.cos(angle):.2f},{y + radius * math.sin(angle):.2f}")
    return " ".join(corners)


def _printable(text: str) -> str:
    """Without what XML forbids (control characters, lone surrogates) or what turns the line around (bidirectional marks)."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
