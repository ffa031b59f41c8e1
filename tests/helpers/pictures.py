"""README's pictures: small files of what is on the screen."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from playwright.sync_api import Page

SHOTS = os.environ.get("SHOTS", "")  # the folder for them; without one, none are taken
COLOURS = 128  # of the pages, with their figures; nobody sees the difference, and the files are a third
WIDTH = 830  # of a README, in pixels
SECONDS = 2.5  # that the animation shows each picture


def take_picture(page: Page, height: int | None) -> Image:
    """Return what is on the screen, down to a height, in pixels of the page."""
    from PIL import Image  # here, because only `make shots` needs it

    size = page.viewport_size
    clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
    # In the middle of an animation or with a blinking cursor, each picture would be another.
    taken = page.screenshot(clip=clip, animations="disabled", caret="hide")
    return Image.open(io.BytesIO(taken)).convert("RGB")


def write_picture(picture: Image, file: Path) -> None:
    picture.quantize(COLOURS, dither=0).save(file, optimize=True)


def write_animation(pictures: Sequence[Image], file: Path) -> None:
    """Show one picture after the other, forever; what is lower than the highest gets a white margin."""
    from PIL import Image

    height = max(picture.height for picture in pictures)
    frames = []
    for picture in pictures:
        frame = Image.new("RGB", (picture.width, height), "white")
        frame.paste(picture)
        frames.append(frame.resize((WIDTH, round(WIDTH * height / frame.width)), Image.Resampling.LANCZOS))
    first, *others = [frame.quantize(COLOURS, dither=0) for frame in frames]
    first.save(file, save_all=True, append_images=others, duration=SECONDS * 1000, loop=0, optimize=True)
