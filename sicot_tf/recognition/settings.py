"""Numbers of the recognition stages, chosen on validation pictures."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RecognitionSettings:
    """How the stages weigh what they see; kept with a release.

    Attributes:
        category_search_weight: 0 to 1; share of the nearest catalogue pictures
            in the category, the rest is the model's.
        category_sharpness: 0 or more; a picture at squared distance d votes
            with exp(-category_sharpness * d).
        num_neighbours: catalogue pictures that vote.
        category_influence: 0 or more; a SKU's score is multiplied by its
            category's score to this power, and all scores together stay 1.
            0 leaves the scores as they are. Never hides a SKU.
        heat_threshold: 0 to 1; cells of the heat map below this share of its
            maximum are no part of an object.
        heat_mass: 0 to 1; a box holds at least this share of the heat of its
            region.
        box_margin: share of its sides by which a box grows on each side.
        max_objects: boxes of a photo.
    """

    category_search_weight: float = 0.5
    category_sharpness: float = 4.0
    num_neighbours: int = 30
    category_influence: float = 0.0
    heat_threshold: float = 0.5
    heat_mass: float = 0.9
    box_margin: float = 0.1
    max_objects: int = 4
