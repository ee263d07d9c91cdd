"""How the page looks, light and dark. The fonts are those that the reader has. Pure."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --text: #1b2330; --dim: #5b6675; --back: #f4f6f8; --card: #fff; --line: #dce1e7;
  --ok: #1a7f45; --warning: #9a5b00; --critical: #c0262d; --ok-back: #e3f4e9; --warning-back: #fdf0d8;
  --critical-back: #fce5e5; --unknown: #e6eaee; --move: #3b5bdb; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ee; --dim: #9aa5b4; --back: #12161c; --card: #1b212a;
  --line: #323b47; --ok: #57c98a; --warning: #f0b45a; --critical: #ff7b7b; --ok-back: #16352a;
  --warning-back: #3c2e13; --critical-back: #431d20; --unknown: #262e38; --move: #8ea6ff; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.25rem; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 84rem; margin: 0 auto; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; margin-bottom: .75rem; }
h1 { font-size: 1.35rem; margin: 0; }
h2 { font-size: 1rem; margin: 0 0 .5rem; }
.dim, .note, footer { color: var(--dim); font-size: .85rem; }
.note { margin: .5rem 0 0; max-width: 60rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem;
  margin-bottom: .9rem; overflow-x: auto; }
.banner { border-left-width: .4rem; }
.banner h2 { font-size: 1.1rem; margin: 0; }
.banner ul { margin: .4rem 0 0; padding: 0; list-style: none; }
.banner li { padding: .1rem 0; overflow-wrap: anywhere; }
.banner.ok { border-color: var(--ok); background: var(--ok-back); }
.banner.warning { border-color: var(--warning); background: var(--warning-back); }
.banner.critical { border-color: var(--critical); background: var(--critical-back); }
.banner.unknown { border-color: var(--line); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-top: 1px solid var(--line); }
th { font-size: .8rem; font-weight: 600; color: var(--dim); border-top: 0; white-space: nowrap; }
td { overflow-wrap: break-word; min-width: 12rem; }
td.short { white-space: nowrap; min-width: 0; }
th.number, td.number { text-align: right; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 0 .9rem;
  align-items: start; }
.pairs tr:first-child td { border-top: 0; }
.pairs td { min-width: 0; overflow-wrap: anywhere; }
.pairs td:first-child { color: var(--dim); width: 45%; }
.level { font-weight: 600; white-space: nowrap; }
td:not(.short) .level { white-space: normal; }
.ok > .sign, .level.ok { color: var(--ok); }
.warning > .sign, .level.warning { color: var(--warning); }
.critical > .sign, .level.critical { color: var(--critical); }
svg + .note { margin: 0 0 .6rem; }
svg { display: block; width: 100%; height: auto; min-width: 40rem; margin-bottom: .6rem; }
svg text { font-size: 12px; fill: var(--text); }
svg .tick text { fill: var(--dim); font-size: 11px; }
svg .tick line { stroke: var(--line); }
svg .lane { fill: var(--ok-back); }
svg .unknown { fill: var(--unknown); }
svg .outage { fill: var(--critical); }
svg .move line { stroke: var(--move); stroke-width: 1.5; }
svg .move circle { fill: var(--move); }
svg .move path { fill: var(--move); }
a { color: inherit; }
"""
