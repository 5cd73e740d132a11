"""Which library turns a JPEG of 800 x 600 into one of 341 x 256 fastest.

Pillow, and those of OpenCV and TensorFlow that are installed, each at full size
and with libjpeg's own scaling. Prints the CPU time of one thread over that of
Pillow at full size (median and quartiles of the rounds), and how far the
result is from Pillow's LANCZOS filter on the full picture (PSNR; more is
nearer).

examples:
  pip install opencv-python-headless
  python -m benchmarks.jobs.image_decoders
"""

import argparse
import importlib.util
import io
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tqdm
from PIL import Image

from benchmarks.jobs import build_dataset

_SIZE, _QUALITY = (341, 256), 95

# JPEG to pixels of the target size; pixels to JPEG.
Decode = Callable[[bytes], np.ndarray]
Encode = Callable[[np.ndarray], bytes]


def _pillow(
    filter_name: Image.Resampling, *, draft: bool
) -> tuple[Decode, Encode]:
    def decode(data: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(data))
        if draft:
            image.draft("RGB", _SIZE)
        return np.asarray(image.resize(_SIZE, filter_name, reducing_gap=3.0))

    def encode(pixels: np.ndarray) -> bytes:
        output = io.BytesIO()
        Image.fromarray(pixels).save(
            output, "JPEG", quality=_QUALITY, subsampling="4:4:4"
        )
        return output.getvalue()

    return decode, encode


def _opencv(flag: int) -> tuple[Decode, Encode]:
    import cv2

    cv2.setNumThreads(1)

    def decode(data: bytes) -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        image = cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA)
        return image[:, :, ::-1]

    def encode(pixels: np.ndarray) -> bytes:
        settings = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
        settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
        settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        return cv2.imencode(".jpg", pixels[:, :, ::-1], settings)[1].tobytes()

    return decode, encode


def _tensorflow(ratio: int) -> tuple[Decode, Encode]:
    import tensorflow as tf

    def decode(data: bytes) -> np.ndarray:
        image = tf.io.decode_jpeg(data, channels=3, ratio=ratio)
        image = tf.image.resize(image, _SIZE[::-1], "area")
        return tf.cast(tf.round(image), tf.uint8).numpy()

    def encode(pixels: np.ndarray) -> bytes:
        return tf.io.encode_jpeg(
            pixels, quality=_QUALITY, chroma_downsampling=False
        ).numpy()

    return decode, encode


def _choices() -> dict[str, tuple[Decode, Encode]]:
    lanczos = Image.Resampling.LANCZOS
    choices = {
        "Pillow, LANCZOS": _pillow(lanczos, draft=False),
        "Pillow, draft, LANCZOS": _pillow(lanczos, draft=True),
    }
    if importlib.util.find_spec("cv2"):
        import cv2

        choices["OpenCV, AREA"] = _opencv(cv2.IMREAD_COLOR)
        choices["OpenCV, half, AREA"] = _opencv(cv2.IMREAD_REDUCED_COLOR_2)
    if importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        choices["TensorFlow, area"] = _tensorflow(1)
        choices["TensorFlow, half, area"] = _tensorflow(2)
    return choices


def _psnr(pixels: np.ndarray, reference: np.ndarray) -> float:
    error = np.mean((pixels.astype(float) - reference.astype(float)) ** 2)
    return 10 * np.log10(255**2 / error) if error else np.inf


def main(argv: list[str] | None = None) -> None:
    """Measures in turns, prints a line for each choice."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--num_pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        paths = build_dataset.make_pictures(
            pathlib.Path(name), arguments.num_pictures
        )
        pictures = [path.read_bytes() for path in paths]
    choices = _choices()
    seconds = {name: [] for name in choices}
    for _ in tqdm.trange(arguments.rounds, unit=" rounds", leave=False):
        for name, (decode, encode) in choices.items():
            encode(decode(pictures[0]))
            started = time.process_time()
            for data in pictures:
                encode(decode(data))
            seconds[name].append(time.process_time() - started)
    base, *_ = choices
    print(f"{'':26}{'time over the first':24}PSNR, dB")
    for name, (decode, _) in choices.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds[base])]
        low, middle, high = statistics.quantiles(ratios, n=4)
        distances = [
            _psnr(decode(data), choices[base][0](data)) for data in pictures
        ]
        print(
            f"{name:26}{middle:.2f} ({low:.2f} to {high:.2f})     "
            f"{statistics.mean(distances):5.1f}"
        )


if __name__ == "__main__":
    main()
