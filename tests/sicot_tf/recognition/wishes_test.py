import unittest

from sicot_tf.recognition import wishes
from sicot_tf.recognition.stages import photos


class WishesTest(unittest.TestCase):
    def test_digits_of_a_box(self):
        """Breaks if a box of digits that are none of 0 to 9 comes through:
        Python does not know all that Unicode has, and would fail on them."""
        for box in ("\U00010d40,0,9,9", "\uff19,9,19,19", "\u0661,0,9,9"):
            with self.assertRaises(photos.PhotoError) as raised:
                wishes.read([("box", box)], {})
            self.assertEqual(raised.exception.status, 422)
        self.assertEqual(wishes.read([("box", "1,0,9,9")], {}).box, "1,0,9,9")


if __name__ == "__main__":
    unittest.main()
