"""The frame of every page: one HTML file without scripts or links, in light and dark, that also prints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final


def page(title: str, body: str) -> str:
    """Return a page; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{escaped(title)}</title><style>{_CSS}</style></head>\n'
        f"<body><main>{body}</main></body></html>\n"
    )


def section(title: str, text: str, cards: Sequence[str], *, wide: bool = False) -> str:
    """Put cards under a heading, beside one another unless `wide`."""
    told = f"<p>{escaped(text)}</p>" if text else ""
    kind = "wide" if wide else "two"
    return f'<section><h2>{escaped(title)}</h2>{told}<div class="{kind}">{"".join(cards)}</div></section>'


def card(title: str, inner: str, note: str = "") -> str:
    """Frame a drawing or a table; `title` and `inner` are HTML."""
    told = f"<figcaption>{escaped(note)}</figcaption>" if note else ""
    head = f"<h3>{title}</h3>" if title else ""
    return f"<figure>{head}{inner}{told}</figure>"


def grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table."""
    head = "".join(f"<th>{escaped(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def day(time: float) -> str:
    """Spell a moment's day (UTC)."""
    return datetime.fromtimestamp(time, UTC).strftime("%-d %B %Y")


def escaped(text: str) -> str:
    """Return text as HTML."""
    return escape(text, quote=True)


_CSS: Final = """
:root{--paper:#faf9f6;--card:#fff;--ink:#23262b;--soft:#6a6f78;--line:#e3e1da;--model:#1f6f8b;--naive:#b5aa97;
--rival:#c8553d;--good:#2f7d4f;--bad:#b5452c}
@media(prefers-color-scheme:dark){:root{--paper:#15171a;--card:#1d2024;--ink:#e7e5e0;--soft:#9a9fa8;--line:#33373d;
--model:#5fb6d3;--naive:#8d8675;--rival:#ef8a6f;--good:#6cc592;--bad:#f08a72}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:48px 24px 64px}
.eyebrow{margin:0;color:var(--soft);font-size:.9rem}
h1{margin:.4em 0 1em;font-size:clamp(1.4rem,3.2vw,2.1rem);line-height:1.25;font-weight:650;text-wrap:balance;
border-left:5px solid var(--good);padding-left:18px}
h1.bad{border-color:var(--bad)}
h2{margin:48px 0 2px;font-size:1.25rem}
section>p{margin:0 0 14px;color:var(--soft)}
h3{margin:0 0 6px;font-size:.95rem;font-weight:600;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px}
.tile,figure{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:14px 18px}.tile span,.tile small{display:block;color:var(--soft);font-size:.82rem}
.tile b{font-size:1.6rem;font-weight:650;font-variant-numeric:tabular-nums}
.wide,.two{display:grid;gap:16px;margin-top:12px}
.two{grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));align-items:start}
figure{margin:0;padding:16px 18px;min-width:0}
figcaption{margin-top:8px;color:var(--soft);font-size:.85rem}
svg{display:block;width:100%;height:auto}
svg text{font-family:system-ui,-apple-system,"Segoe UI",sans-serif!important}
.scroll{overflow-x:auto}
table{width:100%;border-collapse:collapse;font-size:.84rem;font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--soft)}
th,td{padding:5px 7px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;max-width:240px;overflow:hidden;text-overflow:ellipsis}
tbody tr:last-child td{border:0}
footer{margin-top:48px;padding-top:18px;border-top:1px solid var(--line);color:var(--soft);font-size:.85rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0}dt{font-weight:600}
dd{margin:0;overflow-wrap:anywhere}
@media print{figure,.tile{break-inside:avoid}}
"""
