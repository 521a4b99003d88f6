"""Grey pictures against OpenCV's, byte for byte."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pyfaceau.gray import gray_picture


def test_all_colours():
    for blue in range(256):
        picture = np.empty((256, 256, 3), np.uint8)
        picture[..., 0], picture[..., 1], picture[..., 2] = blue, np.arange(256)[:, None], np.arange(256)
        np.testing.assert_array_equal(gray_picture(picture), cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (1, 32), (5, 32), (3, 11), (9, 31), (480, 639)])
def test_all_sizes(shape: tuple[int, int]):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(gray_picture(picture), cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))


def test_a_part_of_a_picture():
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    part = picture[5:50, 3:70]
    np.testing.assert_array_equal(gray_picture(part), cv2.cvtColor(part, cv2.COLOR_BGR2GRAY))
    np.testing.assert_array_equal(gray_picture(picture[::-1]), cv2.cvtColor(picture[::-1].copy(), cv2.COLOR_BGR2GRAY))
