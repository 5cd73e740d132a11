import dataclasses

import numpy as np
import tensorflow as tf

from sicot_tf.recognition import settings as recognition_settings
from sicot_tf.recognition.stages import localization

_SETTINGS = recognition_settings.RecognitionSettings(
    heat_threshold=0.5, heat_mass=1.0, box_margin=0.0, max_objects=4
)


def _find(heat_map, width=320, height=160, **changes):
    return localization.find_boxes(
        np.array(heat_map, np.float32),
        width=width,
        height=height,
        settings=dataclasses.replace(_SETTINGS, **changes),
    )


def _two_blocks():
    """Two blocks of 8 x 8 cells of 32: upper left, and a fainter one."""
    heat_map = np.zeros((32, 32), np.float32)
    heat_map[4:12, 4:12] = 1.0
    heat_map[20:28, 16:24] = 0.8
    return heat_map


class LocalizationTest(tf.test.TestCase):
    def test_boxes_lie_where_the_heat_is(self):
        """Breaks if axes are swapped, or the main object comes second.

        A cell is 10 x 5 pixels; smoothing moves a border by at most a cell.
        """
        boxes = _find(_two_blocks())
        self.assertAllClose(boxes[0], (40, 20, 120, 60), atol=10)
        self.assertAllClose(boxes[1], (160, 100, 240, 140), atol=10)
        self.assertLen(boxes, 2)
        # The main one has the most heat, not the hottest cell.
        wide = _two_blocks()
        wide[20:28, 14:32] = 0.8
        self.assertGreater(_find(wide)[0][1], 80)

    def test_settings_shape_the_boxes(self):
        """Breaks if a number that was chosen on validation has no effect."""
        self.assertLen(_find(_two_blocks(), heat_threshold=0.9), 1)
        self.assertLen(_find(_two_blocks(), max_objects=1), 1)
        plain = _find(_two_blocks())[0]
        # A quarter of 80 x 40 pixels on each side, cut at the photo's border.
        wide = _find(_two_blocks(), box_margin=0.25)[0]
        self.assertAllClose(
            np.subtract(wide, plain), (-20, -10, 20, 10), atol=6
        )
        self.assertEqual(
            localization.grow((10, 20, 110, 60), 0.25, width=120, height=80),
            (0, 10, 120, 70),
        )
        # A faint tail of the region holds little of its heat.
        tail = np.zeros((32, 32))
        tail[8:16, 2:10] = 1.0
        tail[11:13, 10:30] = 0.55
        whole = _find(tail, heat_mass=1.0)[0]
        most = _find(tail, heat_mass=0.7)[0]
        self.assertGreater(whole[2] - whole[0], most[2] - most[0])

    def test_a_box_holds_its_share_of_the_heat(self):
        """Breaks if a box cuts off more than the setting allows."""
        heat = np.array([1, 0, 4, 90, 4, 1], float)
        for mass in (0.5, 0.9, 0.95, 1.0):
            first, last = localization._hold(heat, mass)
            # The other axis may take as much again.
            self.assertGreaterEqual(
                heat[first:last].sum(), (1 + mass) / 2 * heat.sum()
            )
        self.assertEqual(localization._hold(heat, 1.0), (0, 6))
        self.assertEqual(localization._hold(heat, 0.9), (2, 5))

    def test_a_map_that_says_nothing_gives_the_photo(self):
        """Breaks if a photo without heat has no object to recognise."""
        not_finite = np.full((3, 3), np.nan)
        for heat_map in (np.zeros((3, 3)), np.full((4, 2), 7.0), not_finite):
            self.assertEqual(_find(heat_map), [(0, 0, 320, 160)])
        with self.assertRaisesRegex(ValueError, r"shape \(0, 3\).*320 x 160"):
            _find(np.zeros((0, 3)))

    def test_any_photo_has_boxes_of_whole_pixels_inside_it(self):
        """Breaks if a box is empty or leaves the photo, however small."""
        random = np.random.default_rng(0)
        for width, height in ((1, 1), (1, 300), (7, 2), (4000, 3)):
            for _ in range(5):
                boxes = _find(random.random((5, 9)), width, height)
                for x_min, y_min, x_max, y_max in boxes:
                    self.assertIsInstance(x_min, int)
                    self.assertTrue(0 <= x_min < x_max <= width)
                    self.assertTrue(0 <= y_min < y_max <= height)

    def test_squares(self):
        """Breaks if the model, which cuts a square, loses part of a box."""
        for box, square in (
            ((10, 20, 50, 40), (10, 10, 50, 50)),
            # Moved down and left, inside of 100 x 80.
            ((80, 0, 100, 60), (40, 0, 100, 60)),
            # Wider than the photo is high.
            ((0, 10, 90, 30), (0, 0, 90, 80)),
        ):
            self.assertEqual(
                localization.to_square(box, width=100, height=80), square
            )

    def test_overlap(self):
        """By hand: 50 shared of 100 + 100 - 50."""
        box = (0, 0, 10, 10)
        self.assertEqual(localization.overlap(box, box), 1.0)
        self.assertAlmostEqual(
            localization.overlap(box, (5, 0, 15, 10)), 50 / 150
        )
        self.assertEqual(localization.overlap(box, (10, 0, 20, 10)), 0.0)
        self.assertEqual(localization.overlap((20, 20, 30, 30), box), 0.0)
        self.assertEqual(localization.overlap((1, 2, 3, 4), (1, 2, 3, 4)), 1.0)

    def test_choice(self):
        """Breaks if other settings than those of the best boxes are chosen.

        The fainter half of each map is no part of the object: only a
        threshold of 0.7 leaves it out (smoothing overshoots a little).
        """
        maps, boxes = [], []
        for left in (2, 6, 10):
            heat_map = np.zeros((32, 32), np.float32)
            heat_map[8:16, left : left + 8] = 1.0
            heat_map[8:16, left + 8 : left + 16] = 0.72
            maps.append(heat_map)
            boxes.append([(10 * left, 40, 10 * left + 80, 80)])
        chosen = localization.choose_localization(
            maps, boxes, [(320, 160)] * 3, _SETTINGS
        )
        self.assertEqual(chosen.heat_threshold, 0.7)
        self.assertEqual(chosen.max_objects, _SETTINGS.max_objects)
        quality = localization.measure(maps, boxes, [(320, 160)] * 3, chosen)
        self.assertGreater(quality.main, 0.8)
        self.assertAlmostEqual(quality.main, quality.objects)
        with self.assertRaisesRegex(ValueError, "3 heat maps, 2 lists"):
            localization.choose_localization(
                maps, boxes[:2], [(320, 160)] * 3, _SETTINGS
            )

    def test_choice_of_chance(self):
        """Breaks if settings change for what one photo happens to gain.

        The fainter half is no part of the first object, and a third of it is
        one of the second: 0.7 fits the first better, the second worse, and
        both together a little better.
        """
        heat_map = np.zeros((32, 32), np.float32)
        heat_map[8:16, 2:10] = 1.0
        heat_map[8:16, 10:18] = 0.72
        scenes = (
            [heat_map] * 2,
            [[(20, 40, 100, 80)], [(20, 40, 153, 80)]],
            [(320, 160)] * 2,
        )
        other = dataclasses.replace(_SETTINGS, heat_threshold=0.7)
        self.assertGreater(
            localization.measure(*scenes, other).main,
            localization.measure(*scenes, _SETTINGS).main,
        )
        self.assertEqual(
            localization.choose_localization(*scenes, _SETTINGS), _SETTINGS
        )


if __name__ == "__main__":
    tf.test.main()
