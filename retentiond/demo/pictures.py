"""Small pictures for the made-up store: drawn once, then made unlike each other without drawing again."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.model.errors import UsageError

if TYPE_CHECKING:
    import random

    from PIL.Image import Image as Canvas

_SIZES: Final = ((800, 600), (640, 640), (320, 240), (128, 128))
_CROPPED: Final = ((32, 32), (96, 96))
_SCALED: Final = (640, 480)
_SHAPES: Final = 12
_START_OF_IMAGE: Final = b"\xff\xd8"
_COMMENT: Final = b"\xff\xfe"


class Thumbnail(NamedTuple):
    """A thumbnail as dendrite makes them: the size that was asked for, in pixels, `crop` or `scale`, a JPEG."""

    width: int
    height: int
    method: str
    data: bytes

    @property
    def file_name(self) -> str:
        """Its name in the directory of the `file` from which it was made."""
        return f"thumbnail-{self.width}x{self.height}-{self.method}"


class DemoPicture(NamedTuple):
    """A JPEG, with the thumbnails that dendrite makes of it unasked."""

    data: bytes
    thumbnails: tuple[Thumbnail, ...]


def draw_pictures(count: int, rng: random.Random) -> list[DemoPicture]:
    """Draw some pictures of several sizes; UsageError where Pillow is not installed."""
    try:
        # Only the demo draws: the daemon is installed without Pillow.
        from PIL import Image, ImageDraw, ImageOps  # noqa: PLC0415
    except ImportError:
        raise UsageError("the demo draws pictures with Pillow: pip install 'retentiond[demo]'") from None

    def draw(size: tuple[int, int]) -> DemoPicture:
        canvas = Image.new("RGB", size, _colour(rng))
        brush = ImageDraw.Draw(canvas)
        for _ in range(_SHAPES):
            left, right = sorted(rng.randrange(size[0]) for _ in range(2))
            top, bottom = sorted(rng.randrange(size[1]) for _ in range(2))
            shape = brush.ellipse if rng.random() < 0.5 else brush.rectangle  # noqa: PLR2004 - one of two
            shape((left, top, right, bottom), fill=_colour(rng))
        thumbnails = [Thumbnail(*crop, "crop", _as_jpeg(ImageOps.fit(canvas, crop))) for crop in _CROPPED]
        if size[0] >= _SCALED[0] and size[1] >= _SCALED[1]:
            thumbnails.append(Thumbnail(*_SCALED, "scale", _as_jpeg(ImageOps.contain(canvas, _SCALED))))
        return DemoPicture(_as_jpeg(canvas), tuple(thumbnails))

    return [draw(_SIZES[number % len(_SIZES)]) for number in range(count)]


def with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """Return the same picture with a comment of up to 65,533 bytes in its file: another content, by its hash."""
    segment = _COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment
    return _START_OF_IMAGE + segment + jpeg.removeprefix(_START_OF_IMAGE)


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return (rng.randrange(256), rng.randrange(256), rng.randrange(256))


def _as_jpeg(canvas: Canvas) -> bytes:
    data = io.BytesIO()
    canvas.save(data, "JPEG", quality=70)
    return data.getvalue()
