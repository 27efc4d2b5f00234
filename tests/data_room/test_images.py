import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from rlsd_lightning.data.images import (
    ImageError,
    check_image,
    image_key,
    image_size,
    load_image,
)


def encoded(image, image_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def gradient(width=6, height=4):
    """An image without any symmetry, so that every flip shows."""
    pixels = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    return Image.fromarray(pixels * 3)


def png_header(width, height):
    """A PNG that claims a size and holds almost nothing."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_all_forms_of_an_image_decode_to_the_same_pixels(tmp_path):
    image = gradient()
    content = encoded(image)
    path = tmp_path / "image.png"
    path.write_bytes(content)
    forms = [
        image,
        content,
        path,
        str(path),
        {"bytes": content, "path": None},
        {"bytes": content, "path": "elsewhere.png"},
        {"bytes": None, "path": str(path)},
    ]
    assert {image_key(load_image(form)) for form in forms} == {image_key(image)}
    assert {image_size(form) for form in forms} == {(4, 6)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_respected_in_pixels_and_size(orientation):
    upright = gradient()
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if undo is None else upright.transpose(undo)
    content = encoded(stored, exif=exif.tobytes())
    assert image_key(load_image(content)) == image_key(upright)
    assert image_size(content) == (4, 6)


def test_transparency_is_laid_on_white():
    # alpha 0: white. alpha 51 of 255 = 0.2: 0.2 * 0 + 0.8 * 255 = 204 in green and blue, 255 in red.
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 51))
    decoded = load_image(encoded(image))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (255, 204, 204)]


def test_palette_images_keep_their_colours_and_their_transparent_entry():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert load_image(encoded(image)).getpixel((1, 0)) == (40, 50, 60)
    decoded = load_image(encoded(image, transparency=1))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]


def test_sixteen_bits_are_scaled_not_cut():
    # 65535 / 255 = 257 per step: 0 -> 0, 257 -> 1, 32896 = 128 * 257 -> 128, 65535 -> 255.
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    decoded = load_image(encoded(Image.fromarray(values)))
    assert [decoded.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]
    as_integers = load_image(Image.fromarray(values.astype(np.int32)))
    assert image_key(as_integers) == image_key(decoded)


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))  # magenta + yellow ink
    decoded = load_image(encoded(image, "TIFF"))
    assert decoded.mode == "RGB"
    assert decoded.getpixel((0, 0)) == (255, 0, 0)


def test_float_images_are_refused():
    image = Image.new("F", (2, 2), 0.5)
    with pytest.raises(ImageError, match=r"32-bit floats.*save it with 8 bits"):
        load_image(encoded(image, "TIFF"))
    with pytest.raises(ImageError, match=r"type Image cannot be read .*32-bit floats"):
        load_image(image)


@pytest.mark.parametrize("size", [(10_000, 9_000), (100_000, 100_000)])
@pytest.mark.parametrize("use", [load_image, check_image, image_size])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_images_are_refused_by_their_header(size, use):
    with pytest.raises(ImageError, match=r"pixels, the most an image may have.*Scale it down"):
        use(png_header(*size))


def test_a_cut_file_is_found_by_verifying_and_named(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(encoded(gradient(60, 40))[:-40])
    for use in (check_image, load_image):
        with pytest.raises(ImageError, match=r"cut\.png cannot be read .*Replace it"):
            use(path)
    assert image_size(path) == (40, 60)  # which needs the header only


def test_text_is_no_image(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<html>404</html>")
    with pytest.raises(ImageError, match=r"page\.html is in no image format.*Convert or replace"):
        load_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png does not exist.*Correct the path"):
        load_image({"bytes": None, "path": str(tmp_path / "gone.png")})


@pytest.mark.parametrize("source", [42, None, "", {"bytes": None, "path": None}, [b"1"]])
def test_other_types_are_refused(source):
    with pytest.raises(ImageError, match=r"cannot be opened.*Needed: a path, encoded bytes"):
        load_image(source)


def test_the_key_tells_shapes_and_modes_apart():
    pixels = bytes(range(12))
    shapes = [("RGB", (4, 1)), ("RGB", (2, 2)), ("L", (4, 3)), ("RGBA", (3, 1)), ("CMYK", (3, 1))]
    assert len({image_key(Image.frombytes(mode, size, pixels)) for mode, size in shapes}) == 5


def test_an_image_that_was_handed_over_stays_open(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(gradient()))
    with Image.open(path) as image:
        image_size(image)
        check_image(image)
        assert image_key(ImageOps.exif_transpose(image)) == image_key(gradient())
