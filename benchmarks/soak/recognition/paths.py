"""Pictures, products and other paths, good and odd, and the codes for each."""

import urllib.parse

from benchmarks.soak.recognition import exchange

_TRICKS = (
    "..",
    "../../../../etc/passwd",
    "..%2f..%2f..%2fsecret.jpg",
    "%2e%2e/%2e%2e/secret.jpg",
    "%2e%2e%2f%2e%2e%2fsecret.jpg",
    "..%5c..%5csecret.jpg",
    "....//....//secret.jpg",
    "%252e%252e%252fsecret.jpg",
    "%c0%ae%c0%ae/secret.jpg",
    "%00",
    "secret.jpg%00.png",
    "%ed%a0%80",
    "%ff%fe",
    "%",
    "%zz",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "file:///etc/passwd",
    "c:%5cwindows",
    "a%0d%0aSet-Cookie:x=1",
    "%e5%8f%af%e4%b9%90" * 50,
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "'%20OR%201=1--",
    "A" * 3000,
    "A" * 20_000,
    "-_" * 40,
    "=",
    "*",
    "?",
    "#",
    ";",
)


def pictures(rng, world):
    """Pictures by good ids, changed ids, paths."""
    good = rng.choice(world.pictures)
    kind = rng.randrange(3)
    if kind == 0:
        headers = rng.choice(
            [
                [],
                [(b"Range", b"bytes=0-1")],
                [(b"Range", b"bytes=9-1,-5,99999999-")],
                [(b"Range", rng.randbytes(9).hex().encode())],
                [(b"If-None-Match", b'"\xff"')],
                [(b"If-Range", b"\xff"), (b"Range", b"bytes=0-")],
            ]
        )
        request = exchange.http(b"GET", good.encode(), headers=headers)
        return exchange.Exchange(
            "picture", request, frozenset({200, 206, 304, 400, 416}),
            is_http=False,
        )  # fmt: skip
    if kind == 1:
        text = list(good)
        place = rng.randrange(len("/v1/pictures/"), len(text) - 1)
        text[place] = rng.choice("ABCabc019-_")
        path = "".join(text)
        statuses = {200} if path == good else {404}
        return exchange.Exchange(
            "picture: forged", exchange.http(b"GET", path.encode()),
            frozenset(statuses),
        )  # fmt: skip
    path = "/v1/pictures/" + rng.choice(_TRICKS)
    return exchange.Exchange(
        "picture: path",
        exchange.http(b"GET", path.encode()),
        frozenset({400, 404}),
        is_http=False,
    )


def products(rng, world):
    """Products by good SKUs, and by what is none."""
    if rng.random() < 0.4:
        path = "/v1/products/" + urllib.parse.quote(rng.choice(world.sku_ids))
        return exchange.Exchange(
            "product", exchange.http(b"GET", path.encode()), frozenset({200})
        )
    path = "/v1/products/" + rng.choice([*_TRICKS, ""])
    return exchange.Exchange(
        "product: path",
        exchange.http(b"GET", path.encode()),
        frozenset({400, 404}),
    )


def searches(rng, world):
    """Results by good queries, changed ones, and by what is none."""
    query = rng.choice(world.queries)
    kind = rng.randrange(4)
    if kind == 0:
        name, statuses = "search: query", {200}
        more = rng.choice(
            ["", "&page=2", "&page_size=1", "&category_filter=fruit"]
            + ["&min_price=1&max_price=2", "&tags=a,b", "&ordered_by=quality"]
            + ["&category_filter=%00", "&page=10000", "&variant=default"]
        )
    elif kind == 1:
        name, statuses = "search: forged", {200, 409, 422}
        text = list(query)
        text[rng.randrange(len(text))] = rng.choice("ABCabc019-_")
        query, more = "".join(text), ""
    elif kind == 2:
        name, statuses, more = "search: no query", {400, 422}, ""
        query = rng.choice([*_TRICKS, query[:-3], query + "A" * 8, "&query=a"])
        # What follows these signs is another parameter, or none at all.
        query = query.replace("#", "%23")
    else:
        name, statuses = "search: parameter", {422}
        more = rng.choice(
            ["&query=" + query, "&box=1,2,3,4", "&top_k=1", "&page=0"]
            + ["&min_price=2&max_price=1", "&page_size=101", "&x", "&image=a"]
            + ["&ordered_by=price", "&variant=other", "&min_price=nan"]
        )
    path = f"/v1/search?query={query}{more}".encode()
    return exchange.Exchange(
        name,
        exchange.http(b"GET", path),
        frozenset(statuses),
        is_http=kind != 2,
    )


def others(rng, world):
    """Paths and methods that nobody serves."""
    method = rng.choice(
        [b"GET", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS", b"TRACE"]
        + [b"CONNECT", b"get", b"X" * 50, b"PROPFIND"]
    )
    path = rng.choice(
        [
            "/v1/recognize",
            "/v1/search/",
            "/v1/recognize/",
            "/v1",
            "/V1/recognize",
            "//",
            "/",
        ]
        + ["/healthz", "/metrics", "/docs", "/openapi.json", "/v1/events"]
        + ["/../app.py", "/.git/config", "*", "http://other/v1/recognize"]
        + [f"/{each}" for each in _TRICKS]
    )
    return exchange.Exchange(
        "path",
        exchange.http(method, path.encode()),
        frozenset({200, 307, 400, 404, 405}),
        is_http=False,
    )
