"""Refusals: every one is an `answers.Refusal`, a code and one sentence."""

import logging
from collections.abc import Mapping
from typing import Any

import fastapi
import starlette.exceptions
from fastapi import exceptions

from sicot_tf.recognition import answers
from sicot_tf.recognition import model_server
from sicot_tf.recognition import wishes
from sicot_tf.recognition.releases import held_releases
from sicot_tf.recognition.search import query_token
from sicot_tf.recognition.stages import photos

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 2
CODES = {
    400: "The form has no photo, or can't be read.",
    401: "The API key is missing or unknown.",
    404: "There is no such thing.",
    408: "The photo comes too slowly.",
    409: "The query is of another model: send the photo again.",
    413: "The photo has too many bytes or pixels.",
    415: "The bytes are no JPEG, PNG, WebP, GIF or BMP.",
    422: "The photo is damaged, or a parameter is unknown or out of range.",
    429: "Too many requests a minute.",
    502: "The model answers with something else.",
    503: "Busy, or not ready: try again after Retry-After seconds.",
    504: "The model server did not answer in time.",
}


def add_handlers(app: fastapi.FastAPI) -> None:
    """Makes refusals of all that is raised on purpose."""
    app.add_exception_handler(starlette.exceptions.HTTPException, _refuse_http)
    app.add_exception_handler(
        exceptions.RequestValidationError, _refuse_parameters
    )
    for kind in (
        photos.PhotoError,
        query_token.TokenError,
        model_server.ModelServerError,
    ):
        app.add_exception_handler(kind, _refuse_status)
    app.add_exception_handler(held_releases.NoReleaseError, _refuse_no_release)


def described(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Codes for the documentation of a path."""
    return {
        code: {"model": answers.Refusal, "description": CODES[code]}
        for code in codes
    }


def answer(
    request_id: str,
    status: int,
    sentence: str,
    headers: Mapping[str, str] | None = None,
) -> fastapi.Response:
    """The refusal of a request."""
    refusal = answers.Refusal(error=sentence, request_id=request_id)
    return fastapi.Response(
        refusal.model_dump_json(),
        status,
        headers,
        media_type="application/json",
    )


def _refuse_http(
    request: fastapi.Request, error: starlette.exceptions.HTTPException
) -> fastapi.Response:
    sentence = error.detail
    if error.status_code == 404 and sentence == "Not Found":
        sentence = f"There is nothing at {request.url.path:.200}. See /docs."
    elif error.status_code == 405:
        sentence = f"{request.method} is not possible here. See /docs."
    return answer(
        request.state.request_id, error.status_code, sentence, error.headers
    )


def _refuse_status(
    request: fastapi.Request,
    error: photos.PhotoError
    | query_token.TokenError
    | model_server.ModelServerError,
) -> fastapi.Response:
    headers = {}
    if error.status > 500:
        _log.warning("Request %s: %s", request.state.request_id, error.details)
    if error.status == 503:
        headers["Retry-After"] = str(_RETRY_SECONDS)
    return answer(request.state.request_id, error.status, str(error), headers)


def _refuse_no_release(
    request: fastapi.Request, error: held_releases.NoReleaseError
) -> fastapi.Response:
    return answer(
        request.state.request_id,
        503,
        str(error),
        {"Retry-After": str(_RETRY_SECONDS)},
    )


def _refuse_parameters(
    request: fastapi.Request, error: exceptions.RequestValidationError
) -> fastapi.Response:
    return answer(
        request.state.request_id, 422, wishes.sentence(error.errors())
    )
