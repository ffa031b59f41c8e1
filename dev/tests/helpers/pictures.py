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


def take_picture(page: Page, file: Path, height: int | None) -> None:
    """Write a screenshot to a file, in a window of this height or its current one."""
    window = page.viewport_size
    page.set_viewport_size({**window, "height": height or window["height"]})
    # Animations and a blinking cursor would change the picture each time.
    screenshot = page.screenshot(animations="disabled", caret="hide")
    page.set_viewport_size(window)
    _few_colours(_read(io.BytesIO(screenshot))).save(file, optimize=True)


def write_animation(pictures: Sequence[Path], file: Path) -> None:
    """Loop through the pictures; lower ones get a white margin."""
    from PIL import Image

    images = [_read(picture) for picture in pictures]
    height = max(image.height for image in images)
    frames = []
    for image in images:
        frame = Image.new("RGB", (image.width, height), "white")
        frame.paste(image)
        size = WIDTH, round(WIDTH * height / image.width)
        frames.append(_few_colours(frame.resize(size, Image.Resampling.LANCZOS)))
    first, *others = frames
    first.save(file, save_all=True, append_images=others, duration=SECONDS * 1000, loop=0, optimize=True)


def _read(file: Path | io.BytesIO) -> Image:
    from PIL import Image  # only `make -C dev shots` needs it

    return Image.open(file).convert("RGB")


def _few_colours(image: Image) -> Image:
    return image.quantize(COLOURS, dither=0)
