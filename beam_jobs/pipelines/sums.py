"""What all elements of a pipeline come to: counts, combined in the pipeline.

Runners hand no collection back to the process that started them. So the sum
is written as one small file into a folder that both see.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Numbers by name, in dicts as deep as one likes; texts where no two differ.
Sums = dict[str, Any]


def add(total: Sums, more: Sums) -> Sums:
    """Adds to `total`: numbers of one name are added, dicts merged.

    Returns:
        `total`.

    Raises:
        ValueError: if two texts of one name differ.
    """
    for name, value in more.items():
        if name not in total:
            total[name] = add({}, value) if isinstance(value, dict) else value
        elif isinstance(value, dict):
            add(total[name], value)
        elif isinstance(value, int):
            total[name] += value
        elif total[name] != value:
            raise ValueError(
                f"Expected one {name}, received {total[name]!r} and {value!r}. "
                "Did the inputs change while the job ran? Run it again."
            )
    return total


class SumFn(beam.CombineFn):
    """Adds dicts, see `add`."""

    def create_accumulator(self) -> Sums:
        """Nothing yet."""
        return {}

    def add_input(self, mutable_accumulator: Sums, element: Sums) -> Sums:
        """Adds an element."""
        return add(mutable_accumulator, element)

    def merge_accumulators(self, accumulators: Iterable[Sums]) -> Sums:
        """Adds what several workers have added up."""
        total = {}
        for each in accumulators:
            add(total, each)
        return total

    def extract_output(self, accumulator: Sums) -> Sums:
        """The sum."""
        return accumulator


class _WriteFn(beam.DoFn):
    def __init__(self, location: locations.Location, key: str):
        self._location = location
        self._key = key

    def process(self, element: Sums) -> Iterator[None]:
        opening.open_folder(self._location).put_json(self._key, element)
        yield from ()


class Summed(beam.PTransform):
    """A transform whose outputs, dicts, are added up and written.

    Args:
        transform: gives the dicts.
        location: the folder of the file with the sum.
        key: its name.
    """

    def __init__(
        self,
        transform: beam.PTransform,
        location: locations.Location,
        key: str,
    ):
        super().__init__()
        self._transform = transform
        self._location = location
        self._key = key

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        """Inputs to nothing."""
        return (
            inputs
            | self._transform
            | "Sum" >> beam.CombineGlobally(SumFn())
            | "WriteSum" >> beam.ParDo(_WriteFn(self._location, self._key))
        )
