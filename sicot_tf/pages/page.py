"""The frame of every HTML page: one file, readable on any screen and printed.

A page needs no network and runs no script: pictures are inlined, and its
content security policy forbids everything else.
"""

import html
import pathlib
import string

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8886; --soft: #8881;
  --right: #00694a; --wrong: #a83c00; }
@media (prefers-color-scheme: dark) {
  :root { --right: #4fc99d; --wrong: #ff9a66; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.finding { font-size: 1.15rem; border-left: 4px solid #0072b2; margin: 0;
  padding: .3rem 1rem; background: var(--soft); }
.note { font-size: .9rem; opacity: .85; margin: .4rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { text-align: left; padding-bottom: .4rem; font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; }
th { font-weight: 600; } thead th { background: var(--soft); }
.numbers td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.numbers :is(td, th):nth-child(n+4) { text-align: right; }
.facts td { overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; break-inside: avoid; }
figure img { max-width: 100%; background: #fff; border-radius: 6px; }
figcaption { font-size: .9rem; }
td img { width: 6rem; height: 6rem; object-fit: contain; background: #fff;
  border-radius: 4px; }
.word { display: inline-block; padding: 0 .4rem; margin: .1rem 0;
  border-radius: 4px; background: var(--soft); }
.word small { opacity: .7; margin-left: .3rem; }
.most { background: #0094641f; color: var(--right); font-weight: 600; }
.least { background: #d5200020; color: var(--wrong); }
.unread { opacity: .5; background: none; }
.right { color: var(--right); } .wrong { color: var(--wrong); }
@media print { body { max-width: none; margin: 0; font-size: 11px; }
  .scroll { overflow: visible; } tr { break-inside: avoid; } }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


def write_page(path: pathlib.Path | str, *, title: str, body: str) -> None:
    """Writes a page under a temporary name, then renames it.

    Args:
        path: the HTML file.
        title: plain text.
        body: HTML, with everything that is not ours escaped.
    """
    path = pathlib.Path(path)
    content = _PAGE.substitute(title=html.escape(title), body=body)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)
