"""Damaged REST requests, and the status codes that may answer each.

Every function takes a `random.Random` and returns one `Exchange`. Requests
are written byte by byte: no client library would send most of them. The
models are those of `fuzz_serving.py`.
"""

import base64
import dataclasses
import functools
import gzip
import json
from collections.abc import Callable

import numpy as np

# May stand for "closed without an answer" among the allowed statuses.
CLOSED = 0


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Bytes to send, and the statuses that may answer them."""

    request: bytes
    statuses: frozenset
    check: Callable[[bytes], None] | None = None
    # Whether the client stops sending at once; else it waits for the answer.
    half_close: bool = False


def _http(
    method="POST",
    path="/v1/models/half_plus_two:predict",
    body=b"",
    headers=(),
):
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    if isinstance(path, str):
        path = path.encode("utf-8", "surrogatepass")
    lines = [method.encode() + b" " + path + b" HTTP/1.1", b"Host: localhost"]
    lines += [b"Connection: close"]
    if not any(name.lower() == b"content-length" for name, _ in headers):
        lines.append(b"Content-Length: %d" % len(body))
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _post(model, body, *statuses, **options):
    path = f"/v1/models/{model}:predict"
    return Exchange(_http(path=path, body=body), frozenset(statuses), **options)


def good(rng):
    """Undamaged; the value of the answer is checked."""
    x = [round(rng.uniform(-9, 9), 3) for _ in range(rng.randrange(1, 9))]
    key, answer_key = rng.choice(
        [("instances", "predictions"), ("inputs", "outputs")]
    )

    def check(body):
        np.testing.assert_allclose(
            json.loads(body)[answer_key], np.float32(x) / 2 + 2, rtol=1e-5
        )

    return _post("half_plus_two", json.dumps({key: x}), 200, check=check)


def _bodies(rng):
    """Good bodies: model and parsed JSON."""
    picture = {"b64": base64.b64encode(rng.randbytes(20)).decode()}
    return rng.choice(
        [
            ("half_plus_two", {"instances": [1.0, 2.5, -3e-7]}),
            ("three_sums", {"instances": [[1, 2, 3], [4, 5, 6]]}),
            ("three_sums", {"inputs": {"x": [[1, 2, 3]]}}),
            (
                "three_sums",
                {
                    "signature_name": "two_inputs",
                    "instances": [{"a": 1.5, "b": 2}, {"a": 0, "b": -7}],
                },
            ),
            ("strings", {"instances": ["beer", "可乐", picture]}),
            ("pictures", {"instances": [picture, picture]}),
            ("all_types", {"inputs": {"x_bool": [True], "x_int8": [1]}}),
        ]
    )


def damaged_json(rng):
    """Cut, changed and repeated characters."""
    model, body = _bodies(rng)
    text = json.dumps(body, ensure_ascii=False)
    for _ in range(rng.choice([1, 1, 3, 10])):
        start = rng.randrange(len(text) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:start]
        elif kind == 1:
            text = (
                text[:start] + rng.choice('{}[]",:0e-\\/ \0\t') + text[start:]
            )
        elif kind == 2:
            text = text[:start] + text[start + rng.randrange(9) :]
        else:
            text = text[:start] + text[start // 2 : start] + text[start:]
    return _post(model, text, 200, 400)


def other_values(rng):
    """Values of another type, and numbers on the edge of each type."""
    model, body = _bodies(rng)
    values = ["null", "true", '"1"', "{}", "[]", '{"b64": "?"}', '{"b64": 1}']
    values += ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1e-400"]
    values += [str(2**63), str(-(2**63) - 1), str(2**64), "9" * 400, "0.5"]
    values += ["-0", "01", "1.", ".5", "+1", "0x10", "1e", "--1", "'a'"]
    values += ['"\\ud800"', '"\\u0000"', '"' + "x" * 5000 + '"', '{"b64": ""}']
    values += ['{"b64": "YQ==", "b65": 1}', '{"a": 1, "a": 2}']
    leaves = []

    def mark(value):
        if isinstance(value, dict):
            return {key: mark(item) for key, item in value.items()}
        if isinstance(value, list):
            return [mark(item) for item in value]
        leaves.append(value)
        return f"@{len(leaves)}@"

    text = json.dumps(mark(body), ensure_ascii=False)
    changed = rng.randrange(len(leaves))
    for i, leaf in enumerate(leaves):
        new = rng.choice(values) if i == changed else json.dumps(leaf)
        text = text.replace(f'"@{i + 1}@"', new)
    # 501: an element type that REST has no form for.
    return _post(model, text, 200, 400, 501)


def ragged(rng):
    """Lists of unequal length and depth."""

    def grow(depth):
        if depth == 0 or rng.random() < 0.2:
            return rng.choice([1, 2.5])
        return [grow(depth - 1) for _ in range(rng.randrange(4))]

    key = rng.choice(["instances", "inputs"])
    body = json.dumps({key: grow(rng.randrange(1, 6))})
    return _post(rng.choice(["three_sums", "half_plus_two"]), body, 200, 400)


def keys(rng):
    """Keys too many, too few, of wrong types; a document that is no object."""
    body = rng.choice(
        [
            {"instances": [1], "inputs": [1]},
            {},
            {"instances": {}},
            {"instances": []},
            {"instances": [{}]},
            {"instances": [{"y": 1}]},
            {"instances": [{"x": 1, "y": 1}]},
            {"instances": [{"x": 1}, 1]},
            {"inputs": {"y": [1]}},
            {"inputs": None},
            {"signature_name": 1, "instances": [1]},
            {"signature_name": "absent", "instances": [1]},
            {"signature_name": "x" * 100_000, "instances": [1]},
            {"signature_name": "regress_x_to_y", "instances": [1]},
            {"signature_name": "with_default", "instances": [{"x": 1}]},
            [],
            [1],
            "instances",
            1,
            None,
            {"examples": [{"x": 1.0}]},
        ]
    )
    return _post("half_plus_two", json.dumps(body), 400)


def deep_json(rng):
    """Nested so deeply that a recursive reader overflows its stack."""
    depth = rng.choice([65, 70, 200, 1000, 20_000, 200_000])
    opening, closing = rng.choice(["[]", ('{"a":', "}"), ('[{"a":', "}]")])
    text = opening * depth + "1" + closing * depth
    if rng.random() < 0.3:
        text = opening * depth
    if rng.random() < 0.7:
        text = '{"instances": ' + text + "}"
    return _post("half_plus_two", text, 400)


def bad_utf8(rng):
    """Bytes that are no UTF-8 in texts, keys, and everywhere."""
    bad = rng.choice(
        [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]
    )
    body = rng.choice(
        [
            b'{"instances": ["%b"]}',
            b'{"%b": ["a"]}',
            b'{"instances": [%b]}',
            b"%b",
            b'{"signature_name": "%b", "instances": ["a"]}',
        ]
    )
    # TensorFlow Serving passes texts on without a look.
    return _post("strings", body % bad, 200, 400)


def byte_order_mark(rng):
    """UTF-16 and UTF-32, and UTF-8 with a mark: none is what is asked for."""
    text = json.dumps({"instances": [1.0]})
    encoding = rng.choice(["utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
    return _post("half_plus_two", text.encode(encoding), 200, 400)


def examples(rng):
    """Classify and regress."""
    verb = rng.choice(["classify", "regress"])
    body = rng.choice(
        [
            {"examples": []},
            {"examples": [{}]},
            {"examples": [1]},
            {"examples": {"x": 1}},
            {"examples": [{"x": "a"}]},
            {"examples": [{"x": [[1]]}]},
            {"examples": [{"x": 1.0}, {"x": None}]},
            {"examples": [{"x": [1.0, 2.0]}]},
            {"examples": [{"x": [1, "a"]}]},
            {"examples": [{"x": {"b64": "?"}}]},
            {"context": {"x": 1.0}},
            {"context": 1, "examples": [{"x": 1.0}]},
            {"examples": [{"x": 1.0}], "signature_name": "absent"},
            {"examples": [{"x": True}], "signature_name": "regress_x_to_y"},
            {"examples": [{"x": "a"}], "signature_name": "regress_x_to_y"},
            {"instances": [1]},
            [],
        ]
    )
    path = f"/v1/models/half_plus_two:{verb}"
    return Exchange(_http(path=path, body=json.dumps(body)), frozenset([400]))


def paths(rng):
    """Paths and verbs that nobody serves."""
    name = rng.choice(
        [
            "half_plus_two",
            "absent",
            "",
            "可乐",
            "%",
            "%zz",
            "%00",
            "%2F..%2F..",
            "a%0d%0ab",
            "x" * rng.choice([300, 5000]),
            ".",
            "..",
        ]
    )
    path = rng.choice(
        [
            f"/v1/models/{name}:predicts",
            f"/v1/models/{name}:",
            f"/v1/models/{name}/versions/9:predict",
            f"/v1/models/{name}/versions/{'9' * 30}:predict",
            f"/v1/models/{name}/versions/-1:predict",
            f"/v1/models/{name}/versions/abc:predict",
            f"/v1/models/{name}/versions/:predict",
            f"/v1/models/{name}/labels/stable:predict",
            f"/v1/models/{name}/labels/:predict",
            f"/v1/models/{name}/versions/1/labels/a:predict",
            f"/v1/models/{name}/",
            f"/v1/models//{name}",
            f"/v2/models/{name}:predict",
            f"//v1/models/{name}:predict",
            f"/v1/{name}",
            f"/{name}",
            f"/v1/models/{name}/metadata/metadata",
            f"/v1/models/{name}/../../etc",
            "*",
            "",
            "a b",
        ]
    )
    method = rng.choice(["POST", "GET"])
    statuses = {400, 404}
    if method == "GET":
        statuses |= {405}
        if "half_plus_two" in path or path == "a b":
            statuses.add(200)
    return Exchange(
        _http(method, path, b'{"instances": [1.0]}'), frozenset(statuses)
    )


def methods(rng):
    """Methods that fit no path, known and invented ones."""
    method = rng.choice(
        ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT"]
        + ["post", "PREDICT", "X" * 50]
    )
    path = rng.choice(
        [
            "/v1/models/half_plus_two:predict",
            "/v1/models/half_plus_two",
            "/v1/models/half_plus_two/metadata",
            "/healthz",
            "/",
        ]
    )
    request = _http(method, path, b'{"instances": [1.0]}')
    return Exchange(request, frozenset([200, 400, 404, 405, 501]))


def get(rng):
    """Status and metadata, for every model, with odd queries."""
    model = rng.choice(["half_plus_two", "all_types", "pictures"])
    path = f"/v1/models/{model}" + rng.choice(
        ["", "/versions/1", "/metadata", "/versions/1/metadata"]
    )
    path += rng.choice(["", "?", "?a=b&c=%ff", "?" + "x" * 3000])
    return Exchange(_http("GET", path), frozenset([200, 400]))


def headers(rng):
    """Many, long, repeated, empty and malformed headers."""
    kind = rng.randrange(6)
    if kind == 0:
        fields = [(b"X-A", b"v" * rng.choice([1000, 9000]))]
        statuses = {200, 400, 431}
    elif kind == 1:
        # Past every server's limit; the rest may never be read.
        fields = [(b"X-A", b"v" * rng.choice([70_000, 3_000_000]))]
        statuses = {200, 400, 431, CLOSED}
    elif kind == 2:
        number = rng.choice([50, 500, 5000])
        fields = [(b"X-%d" % i, b"v") for i in range(number)]
        statuses = {200, 400, 431} | ({CLOSED} if number > 500 else set())
    elif kind == 3:
        fields = [
            rng.choice(
                [
                    (b"Content-Type", b"\xff\xfe"),
                    (b"X A", b"1"),
                    (b"", b"1"),
                    (b"X-\x00", b"1"),
                    (b"X-A", b"\x00"),
                    (b"Host", b"other"),
                    (b"Expect", b"200-nothing"),
                ]
            )
        ]
        statuses = {200, 400, 417}
    elif kind == 4:
        fields = [
            (b"Origin", rng.choice([b"http://a.b", b"null", b"\xff", b""]))
        ]
        statuses = {200}
    else:
        fields = [(b"Accept-Encoding", b"gzip"), (b"Range", b"bytes=0-1")]
        statuses = {200}
    request = _http(body=b'{"instances": [1.0]}', headers=fields)
    return Exchange(request, frozenset(statuses))


def lengths(rng):
    """Content-Length and chunks that do not fit what is sent."""
    body = b'{"instances": [1.0]}'
    length = rng.choice(
        [b"-1", b"1e3", b"abc", b"", b"9" * 30, b"5", b"21", b"20, 20", b"+20"]
    )
    fields = [(b"Content-Length", length)]
    if rng.random() < 0.4:
        fields = [
            (b"Content-Length", b"20"),
            (b"Transfer-Encoding", b"chunked"),
        ]
        body = rng.choice(
            [
                b"14\r\n" + body + b"\r\n0\r\n\r\n",
                b"zz\r\n",
                b"ffffffffffffffffff\r\na",
                b"-1\r\n\r\n",
                b"3\r\nabcd\r\n",
            ]
        )
    request = _http(body=body, headers=fields)
    return Exchange(
        request, frozenset([200, 400, 411, 413, CLOSED]), half_close=True
    )


def gzip_bodies(rng):
    """Packed bodies: good, cut, no gzip, and 300 MB out of 300 kB."""
    packed = bytearray(gzip.compress(b'{"instances": [1.0]}'))
    kind = rng.randrange(60)
    statuses = {400}
    if kind < 20:
        statuses = {200}
    elif kind < 35:
        del packed[rng.randrange(len(packed)) :]
    elif kind < 50:
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
        # A flipped time stamp harms nobody.
        statuses = {200, 400}
    elif kind < 59:
        packed[:] = rng.randbytes(30)
    else:
        packed[:] = _bomb()
        statuses = {400, 413}
    encoding = rng.choice([b"gzip", b"GZIP, x", b"x-gzip"])
    if encoding != b"gzip":
        statuses |= {200, 400}
    request = _http(
        body=bytes(packed), headers=[(b"Content-Encoding", encoding)]
    )
    return Exchange(request, frozenset(statuses))


def no_http(rng):
    """Bytes that are no HTTP at all, or that stop too early."""
    whole = _http(body=b'{"instances": [1.0]}')
    request = rng.choice(
        [
            rng.randbytes(rng.randrange(1, 100)),
            b"\r\n" * rng.randrange(1, 5),
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            whole[: rng.randrange(len(whole))],
        ]
    )
    return Exchange(
        request,
        frozenset([400, 404, 405, 414, 505, CLOSED]),
        half_close=True,
    )


@functools.cache
def _bomb():
    return gzip.compress(bytes(300_000_000))


# How often each comes; the rare ones send megabytes.
KINDS = {
    good: 6,
    damaged_json: 12,
    other_values: 10,
    ragged: 6,
    keys: 6,
    deep_json: 2,
    bad_utf8: 3,
    byte_order_mark: 1,
    examples: 4,
    paths: 8,
    methods: 3,
    get: 3,
    headers: 3,
    lengths: 3,
    gzip_bodies: 3,
    no_http: 3,
}
