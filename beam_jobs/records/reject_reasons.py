"""Why a record is put aside: the codes in rejects.jsonl, explained."""

from collections.abc import Mapping

OF_DATASET = {
    "bad_json": "the line is not a JSON object in UTF-8",
    "bad_encoding": "text that is not UTF-8, or not of --encoding",
    "missing_field": "a required field is absent or empty",
    "bad_field": "a field has the wrong type, or a CSV row the wrong length",
    "unknown_field": "a field outside the contract (only with --strict)",
    "unknown_split": "split is none of train, val, validation, test",
    "bad_box": "box is not 0 <= min < max inside the image",
    "duplicate_id": "an earlier record has the same record_id",
    "duplicate_image": "another record of the class has the same picture",
    "image_in_test": "a training picture that also is in val or test, or "
    "nearly",
    "missing_image": "the image file can't be read",
    "empty_file": "the image file has no bytes",
    "not_an_image": "the file is none of the image formats we read",
    "decode_error": "the image file is truncated or damaged",
    "too_small": "the shorter side is below min_image_side",
    "too_many_pixels": "more pixels than max_image_pixels",
    "too_long": "more than 65,500 pixels on the longer side, when stored",
    "no_words": "a training record without words (only with --require_words)",
    "class_not_in_train": "a val or test record of a class never trained",
    "unexpected_error": "an error nobody foresaw; the message names it",
}

OF_CATALOGUE = {
    "bad_json": "the line is not a JSON object in UTF-8",
    "bad_encoding": "text that is not UTF-8, or not of --encoding",
    "missing_field": "a required field is absent or empty",
    "bad_field": "a field has the wrong type, or a CSV row the wrong length",
    "unexpected_error": "an error nobody foresaw; the message names it",
    "missing_image": "the picture can't be read (only with --saved_model)",
    "not_an_image": "the file is not a picture",
    "too_many_pixels": "the picture is too large to decode",
    "decode_error": "the picture is damaged, or of a format the model can't "
    "read",
}


def table(reasons: Mapping[str, str]) -> str:
    """A line for each reason."""
    width = max(map(len, reasons))
    return "\n".join(
        f"  {reason:{width}}  {text}" for reason, text in reasons.items()
    )
