"""Tests of the measures of a picture."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFilter
from PIL import ImageFont

from beam_jobs.features import picture_quality
from sicot_tf.data import records


def _file(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _picture(ground="white"):
    image = Image.new("RGB", (128, 96), ground)
    pen = ImageDraw.Draw(image)
    pen.ellipse((30, 20, 90, 76), "darkgreen")
    pen.rectangle((45, 35, 70, 60), "orange")
    return image


def test_sharpness_and_size():
    """If it fails, blurred or small pictures are as good as others."""
    image = _picture()
    sharp = picture_quality.measure(_file(image))
    blurred = picture_quality.measure(
        _file(image.filter(ImageFilter.GaussianBlur(4)))
    )
    assert sharp["sharpness"] > 5 * blurred["sharpness"]
    assert sharp["picture_side"] == 96
    # Of the same thing, measured at the same scale.
    large = picture_quality.measure(_file(image.resize((512, 384), 3)))
    assert large["picture_side"] == 384
    assert 0.3 < large["sharpness"] / sharp["sharpness"] < 3


def test_background_share():
    """If it fails, pictures on a table pass for those on white."""
    for ground in ("white", "navy"):
        found = picture_quality.measure(_file(_picture(ground)))
        assert found["background_share"] == 1
    noise = np.random.default_rng(0).integers(0, 200, (96, 128, 3), np.uint8)
    found = picture_quality.measure(_file(Image.fromarray(noise)))
    assert found["background_share"] < 0.05
    # Half white, half of all colours.
    noise[:, :64] = 255
    share = picture_quality.background_share(noise)
    np.testing.assert_allclose(share, 0.5, atol=0.03)


def test_text_share():
    """If it fails, a banner is not told from a picture without."""
    image = _picture()
    assert picture_quality.measure(_file(image))["text_share"] == 0
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 72, 128, 96), "red")
    pen.text((64, 84), "SALE", "white", ImageFont.load_default(20), "mm")
    # The word takes some 60 x 15 of 128 x 96 pixels, 7 %.
    found = picture_quality.measure(_file(image))["text_share"]
    assert 0.04 < found < 0.15


def test_what_is_no_picture_has_a_reason():
    """If it fails, one bad file ends the job, or has measures."""
    whole = _file(_picture(), "JPEG")
    for data, reason in (
        (b"", "empty_file"),
        (b"<html>", "not_an_image"),
        (whole[: len(whole) // 2], "decode_error"),
    ):
        with pytest.raises(records.RecordError) as raised:
            picture_quality.measure(data)
        assert raised.value.reason == reason


def test_smallest_pictures():
    """If it fails, a pixel ends the job."""
    for size in ((1, 1), (1, 300), (2, 2)):
        found = picture_quality.measure(_file(Image.new("RGB", size)))
        assert all(np.isfinite(list(found.values())))
