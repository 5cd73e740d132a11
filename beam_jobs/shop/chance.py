"""Chance that only the seed and what it is for decide.

Nothing is drawn one after the other: SKU 712 and its picture 3 are the same
whoever makes them, and in whatever order.
"""

import numpy as np

from sicot_tf import files

# Four make a permutation that nobody tells from a random one (Luby, Rackoff).
_ROUNDS = 4


def generator(seed: int, *purpose: int | str) -> np.random.Generator:
    """Random numbers of a purpose, for example `("picture", sku, 3)`."""
    return np.random.Generator(np.random.Philox(key=number(seed, *purpose)))


def number(seed: int, *purpose: int | str) -> int:
    """64 random bits of a purpose."""
    return files.stable_hash(seed, *purpose)


class Permutation:
    """A random order of `range(size)` of which nothing is stored.

    A Feistel network over the bits of the numbers: each round is undone by
    itself. What it leads out of the range is led on until it is back
    (cycle-walking; Black and Rogaway, "Ciphers with Arbitrary Finite
    Domains", 2002).
    """

    def __init__(self, size: int, seed: int, purpose: str):
        self.size = size
        self._half = max(1, (size - 1).bit_length() + 1 >> 1)
        self._mask = (1 << self._half) - 1
        self._keys = [
            number(seed, "permutation", purpose, size, each) | 1
            for each in range(_ROUNDS)
        ]

    def __call__(self, index: int) -> int:
        """Where `index` goes."""
        return self._walk(index, self._keys, forward=True)

    def inverse(self, place: int) -> int:
        """Which index goes to `place`."""
        return self._walk(place, self._keys[::-1], forward=False)

    def inverse_of(self, places: np.ndarray) -> np.ndarray:
        """`inverse` of many places at once: int64 `[n]` to `[n]`."""
        values = places.astype(np.uint64)
        walking = np.arange(len(values))
        half, mask = np.uint64(self._half), np.uint64(self._mask)
        while len(walking):
            left, right = values[walking] >> half, values[walking] & mask
            for key in self._keys[::-1]:
                left, right = right ^ self._mix(left, np.uint64(key)), left
            values[walking] = left << half | right
            walking = walking[values[walking] >= self.size]
        return values.astype(np.int64)

    def _walk(self, value: int, keys: list[int], forward: bool) -> int:
        if not 0 <= value < self.size:
            raise ValueError(
                f"Expected a number from 0 to {self.size - 1}, received "
                f"{value}."
            )
        while True:
            left, right = value >> self._half, value & self._mask
            for key in keys:
                if forward:
                    left, right = right, left ^ self._mix(right, key)
                else:
                    left, right = right ^ self._mix(left, key), left
            value = left << self._half | right
            if value < self.size:
                return value

    def _mix(self, value: int, key: int) -> int:
        """The finalizer of splitmix64, cut to half of the bits."""
        value = (value + 1) * key & 0xFFFFFFFFFFFFFFFF
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        value = (value ^ value >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        return (value ^ value >> 31) & self._mask
