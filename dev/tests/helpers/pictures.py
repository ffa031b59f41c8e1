"""The documentation's pictures: screenshots in small files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from playwright.sync_api import Page

SHOTS = os.environ.get("SHOTS", "")  # the folder for pictures; empty for none
WINDOW = {"width": 1280, "height": 800}
PIXELS = 1.3 if SHOTS else 1  # per pixel of the window; pictures are twice as wide as a README
COLOURS = 256  # reduces a file to a third
WIDTH = 830  # of a README, in pixels
SECONDS = 2.5  # per picture of the animation


def picture_file(name: str) -> Path:
    return Path(SHOTS, f"{name}.png")


def take_picture(page: Page, file: Path, height: int | None) -> Image:
    """Write a screenshot to a file, in a window of this height or its current one.

    :return: a screenshot of the whole window, for an animation, whose pictures have one size.
    """
    whole = _screenshot(page)
    window = page.viewport_size
    page.set_viewport_size({**window, "height": height or window["height"]})
    _few_colours(_screenshot(page)).save(file, optimize=True)
    page.set_viewport_size(window)
    return whole


def write_animation(pictures: Sequence[Image], file: Path) -> None:
    """Loop through the pictures."""
    from PIL import Image

    size = WIDTH, round(WIDTH * WINDOW["height"] / WINDOW["width"])
    first, *others = [_few_colours(picture.resize(size, Image.Resampling.LANCZOS)) for picture in pictures]
    first.save(file, save_all=True, append_images=others, duration=SECONDS * 1000, loop=0, optimize=True)


def _screenshot(page: Page) -> Image:
    from PIL import Image  # only `make -C dev shots` needs it

    # Animations and a blinking cursor would change the picture each time.
    picture = page.screenshot(animations="disabled", caret="hide")
    return Image.open(io.BytesIO(picture)).convert("RGB")


def _few_colours(image: Image) -> Image:
    return image.quantize(COLOURS, dither=0)
