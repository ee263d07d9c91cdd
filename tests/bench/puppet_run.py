"""What an outage of the primary costs a run of `puppet apply`: with the gateway, and without it.

Each side runs with the primary healthy, then with the primary frozen: what the first run pays, and what every later
one does, against the healthy median of the same session. The stock terminus is measured beside it, not judged.

    python -m tests.bench.puppet_run [--quick] [--lab DIR]

With the gateway, all limits are the defaults. Ends with one JSON line. Exit 1 when, through the gateway, the first
run costs more than 5 s, or the median of the later runs more than 0.2 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port
from tests.bench.load.place import running_lab, workplace
from tests.integration.puppet.apply_site import ApplySite
from tests.integration.puppet.evidence import COLLECTING, exporting
from tests.integration.puppet.gateway import Gateway

FIRST_LIMIT, LATER_LIMIT = 5.0, 0.2
# The stock terminus pays this for every command and query; with its default of 30 s, nobody could wait for it here.
STOCK = {"server_url_timeout": "5"}
PRIMARY = "primary"
WARM_UP = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="5 runs a case instead of 10, and 1 of the stock terminus"
    )
    parser.add_argument("--lab", type=Path, help="a lab of two nodes that is up, instead of one of its own")
    args = parser.parse_args()
    runs = 5 if args.quick else 10
    stock_runs = 1 if args.quick else 3
    with running_lab(args.lab, 2) as lab, workplace() as home:
        site = ApplySite(home / "host", lab, "node1.mycorp.net")
        site.configure(free_port())
        with Gateway(site.puppetdb_conf, home / "gateway.log"):
            gateway = measured(lab, site, runs, runs)
        site.configure(None, **STOCK)
        stock = measured(lab, site, runs, stock_runs)
    for side, figures in (("gateway", gateway), ("stock", stock)):
        print(side, figures, file=sys.stderr)
    missed = [
        case
        for case, limit in (("first", FIRST_LIMIT), ("later", LATER_LIMIT))
        if gateway[f"{case}_s"] - gateway["healthy_s"] > limit
    ]
    result = {"bench": "puppet_run", "runs": runs, "gateway": gateway, "stock": stock}
    print(json.dumps({**result, "missed": missed, "ok": not missed}))
    return 1 if missed else 0


def measured(lab: Lab, site: ApplySite, healthy: int, later: int) -> dict[str, Any]:
    """Seconds of a run: the healthy median, the first with the primary frozen, the median of `later` more."""
    for _ in range(WARM_UP):
        seconds(site)
    well = [seconds(site) for _ in range(healthy)]
    lab.fault(PRIMARY, "freeze")
    try:
        first = seconds(site)
        after = [seconds(site) for _ in range(later)]
    finally:
        lab.fault(PRIMARY, "thaw")
    return {
        "healthy_s": round(statistics.median(well), 2),
        "healthy_spread_s": round(max(well) - min(well), 2),
        "first_s": round(first, 2),
        "later_s": round(statistics.median(after), 2),
    }


def seconds(site: ApplySite) -> float:
    """One run with facts, a catalog, a collector and a report; it must succeed."""
    # The host collects its own file too: the first run makes it.
    manifest = exporting(site.installation.root / "exported", "content") + COLLECTING
    return site.apply(manifest).require(0, 2).seconds


if __name__ == "__main__":
    sys.exit(main())
