# One image for every command of this project: the recognition service with its
# model server inside, the model server alone, the daily jobs, and training
# (kubernetes/train.yaml). From the project's root:
#
#   docker build --tag registry.example.com/sicot-tf:0.2.0 .
#   docker run --rm -p 8080:8080 -v /srv/sicot:/storage:ro \
#       registry.example.com/sicot-tf:0.2.0
#   docker run --rm -v /srv/sicot:/storage registry.example.com/sicot-tf:0.2.0 \
#       python -m sicot_tf.release --releases /storage/releases --list
#
# Models, indexes and catalogues are no part of it: they are on /storage.
# saved_models/Dockerfile is for TensorFlow Serving, with models inside.
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS build

WORKDIR /build
COPY setup.py pyproject.toml README.md ./
COPY sicot_tf sicot_tf
COPY beam_jobs beam_jobs
RUN python -m venv /opt/sicot && \
    /opt/sicot/bin/pip install --no-cache-dir .

FROM ${PYTHON}
COPY --from=build /opt/sicot /opt/sicot

# Two arenas instead of eight a core: replaced versions give memory back.
# Whatever libraries keep goes to /tmp: nothing else need be writable.
ENV PATH=/opt/sicot/bin:$PATH \
    HOME=/tmp \
    MALLOC_ARENA_MAX=2 \
    MPLCONFIGDIR=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2
# Nobody.
USER 65534:65534
WORKDIR /storage
EXPOSE 8080

CMD ["python", "-m", "sicot_tf.recognize", \
     "--releases=/storage/releases", \
     "--catalogue_root=/storage/catalogue", \
     "--host=0.0.0.0", \
     "--port=8080", \
     "--drain_seconds=15"]
