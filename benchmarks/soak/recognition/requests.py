"""Damaged requests to the recognition service, and the codes for each.

Every function takes a `random.Random` and a `World`, and returns an
`Exchange`. Requests are written byte by byte: no client library would send
most of them.
"""

import json

from benchmarks.soak.recognition import exchange
from benchmarks.soak.recognition import forms
from benchmarks.soak.recognition import paths
from benchmarks.soak.recognition import photos
from tests.helpers import html_pages


def photo(rng, world):
    """A good or damaged photo, as a form, as it is, or in chunks."""
    kinds = photos.KINDS
    [make] = rng.choices(list(kinds), list(kinds.values()))
    data, statuses = make(rng, world.photos)
    path = rng.choice([exchange.RECOGNIZE, exchange.SEARCH])
    if rng.random() < 0.3:
        path += b"?localize=false"
    way = rng.randrange(3)
    if way == 0:
        request = exchange.http(path=path, body=data)
    elif way == 1:
        request = exchange.chunked(data, path)
    else:
        request = exchange.form(exchange.field(b"image", data, b"photo.jpg"))
    return exchange.Exchange(
        f"photo: {make.__name__}", request, frozenset(statuses)
    )


def too_large(rng, world):
    """More bytes than may be: announced, in chunks, in a form."""
    data = world.photos[0] + bytes(
        exchange.MAX_BYTES + rng.choice([1, 9, 300_000])
    )
    request = rng.choice(
        [
            lambda: exchange.http(body=data),
            lambda: exchange.chunked(data),
            lambda: exchange.form(exchange.field(b"image", data, b"a.jpg")),
            lambda: exchange.form(exchange.field(b"other", data)),
        ]
    )()
    # A field that is no file is refused as a part of the form.
    return exchange.Exchange("too large", request, frozenset({400, 413}))


def raw_queries(rng, world):
    """Queries that are none."""
    query = rng.choice(
        [b"", b"&&&", b"=", b"?", b"%", b"%zz=1", b"a=b=c", b";", b"box"]
        + [b"a[]=1", b"top_k=5#x", b"&".join([b"a=1"] * 3000)]
    )
    request = exchange.http(
        path=exchange.RECOGNIZE + b"?" + query, body=world.photos[0]
    )
    return exchange.Exchange("query", request, frozenset({200, 422}))


def headers(rng, world):
    """Headers that are odd, long, many or doubled."""
    fields = rng.choice(
        [
            [(b"X-Request-Id", rng.choice([b"a b", b"\xff", b"x" * 900, b""]))],
            [(b"X-Request-Id", b"<script>")],
            [(b"Content-Type", rng.choice([b"\xff", b";", b"a" * 999, b""]))],
            [(b"Authorization", rng.choice([b"Bearer", b"Basic \xff", b""]))],
            [(b"Cookie", rng.choice([b"sicot_visitor=<script>", b"\xff;=;;"]))],
            [(b"Cookie", b"sicot_visitor=" + b"a" * 9000)],
            [(b"Accept", b"text/html"), (b"Accept-Encoding", b"br, gzip")],
            [(b"Origin", b"https://other.example")],
            [(b"Content-Encoding", b"gzip")],
            [(b"X-Forwarded-For", b"1.2.3.4"), (b"Forwarded", b"for=x")],
            [(b"User-Agent", html_pages.ATTACK.encode())],
            [(b"X-%d" % each, b"v") for each in range(80)],
        ]
    )
    request = exchange.http(body=rng.choice(world.photos), headers=fields)
    return exchange.Exchange("headers", request, frozenset({200}))


def bad_headers(rng, world):
    """Headers that are none, or more of them than anybody reads."""
    fields = rng.choice(
        [
            [(b"X A", b"1")],
            [(b"", b"1")],
            [(b"X-\0", b"1")],
            [(b"X-A", b"\0")],
            [(b"X-A", b"v" * 70_000)],
            [(b"X-%d" % each, b"v") for each in range(5000)],
            [(b"Content-Length", b"5"), (b"Content-Length", b"6")],
            [(b"Expect", b"200-nothing")],
            [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")],
        ]
    )
    return exchange.Exchange(
        "headers: bad",
        exchange.http(body=world.photos[0], headers=fields),
        frozenset({200, 400, 404, 431, exchange.CLOSED}),
        is_http=False,
    )


def lengths(rng, world):
    """Content-Length and chunks that do not fit what is sent."""
    body = world.photos[0]
    length = rng.choice(
        [b"-1", b"1e3", b"abc", b"", b"9" * 30, b"5", b"+20", b"5, 5"]
        + [b"%d" % (len(body) + 1)]
    )
    fields = [(b"Content-Length", length)]
    if rng.random() < 0.5:
        fields = [(b"Transfer-Encoding", b"chunked")]
        if rng.random() < 0.5:
            fields.append((b"Content-Length", b"20"))
        body = rng.choice(
            [
                b"zz\r\n",
                b"ffffffffffffffffff\r\na",
                b"-1\r\n\r\n",
                b"3\r\nabcd\r\n",
                b"5\r\nab",
                b"0\r\n\r\n",
            ]
        )
    return exchange.Exchange(
        "lengths",
        exchange.http(body=body, headers=fields),
        frozenset({400, 413, 415, 422, exchange.CLOSED}),
        is_http=False,
        half_close=True,
    )


def no_http(rng, world):
    """Bytes that are no HTTP, or that stop too early."""
    whole = exchange.http(body=world.photos[0])
    request = rng.choice(
        [
            rng.randbytes(rng.randrange(1, 100)),
            b"\r\n" * rng.randrange(1, 5),
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            whole[: rng.randrange(len(whole))],
        ]
    )
    return exchange.Exchange(
        "no HTTP",
        request,
        frozenset({400, 404, exchange.CLOSED}),
        is_http=False,
        half_close=True,
    )


def events(rng, world):
    """What a visitor did, and what no event is."""
    good = {"event": "click", "sku_id": rng.choice(world.sku_ids)}
    values = [None, 1, -1.5, True, [], {}, "", "x" * 5000, "\0", 10**30]
    values += [html_pages.ATTACK, "可乐", "click", "2026-01-01T00:00:00Z"]
    kind = rng.randrange(4)
    if kind == 0:
        body, statuses = json.dumps(good).encode(), {204}
    elif kind == 1:
        key = rng.choice(
            ["event", "time", "visitor", "variant", "sku_id", "recognised"]
            + ["model_version", "event_id", "request_id", "x", "__class__"]
        )
        row = good | {key: rng.choice(values)}
        body, statuses = json.dumps(row).encode(), {204, 422}
    elif kind == 2:
        text = json.dumps(good).encode()
        body, statuses = text[: rng.randrange(len(text))], {422}
    else:
        body, statuses = rng.choice(
            [
                (b"[" * 5000, {422}),
                (b"null", {422}),
                (b'{"event": "\\ud800"}', {422}),
                (b"\xff", {422}),
                (b"", {422}),
                (b" " * 9000, {413}),
            ]
        )
    request = exchange.http(path=b"/v1/events", body=body)
    return exchange.Exchange("event", request, frozenset(statuses))


# How often each comes.
KINDS = {
    photo: 50,
    too_large: 2,
    forms.odd: 14,
    forms.parameters: 14,
    raw_queries: 1,
    paths.pictures: 5,
    paths.products: 4,
    paths.searches: 8,
    paths.others: 5,
    headers: 4,
    bad_headers: 2,
    lengths: 2,
    no_http: 2,
    events: 3,
}


def make_exchange(rng, world: exchange.World) -> exchange.Exchange:
    """One of any kind."""
    [make] = rng.choices(list(KINDS), list(KINDS.values()))
    return make(rng, world)
