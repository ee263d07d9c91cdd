"""The `stock` column of the verdict table, confirmed by the stock terminus' own parser.

Needs Debian's puppet-terminus-puppetdb (with Puppet and Ruby), which carries the parser.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

TABLE = Path(__file__).parents[1] / "unit" / "config" / "stock_verdicts.yaml"

# One line of JSON for each path on standard input.
_RUN_THE_PARSER = """
require 'json'
require 'puppet'
require 'puppet/util/puppetdb'
require 'puppet/util/puppetdb/config'
Puppet::Util::Log.level = :crit
STDIN.each_line do |path|
  begin
    urls = Puppet::Util::Puppetdb::Config.load(path.chomp).server_urls
    puts({ok: true, urls: urls.map { |u| "https://#{u.host.to_s.downcase}:#{u.port}" }}.to_json)
  rescue StandardError => e
    puts({ok: false, error: e.message.scrub}.to_json)
  end
end
"""


@pytest.mark.integration
def test_the_stock_parser_gives_each_file_the_verdict_that_the_table_says(tmp_path: Path) -> None:
    """And where both accept a file, both read the same servers in the same order."""
    cases = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    for number, case in enumerate(cases):
        content = bytes(case["bytes"]) if "bytes" in case else case["text"].encode()
        (tmp_path / f"{number}.conf").write_bytes(content)
    paths = "".join(f"{tmp_path}/{number}.conf\n" for number in range(len(cases)))
    # Puppet's own programs read files as UTF-8 whatever the locale is; bare ruby goes by the locale.
    command = ["ruby", "-E", "UTF-8", "-e", _RUN_THE_PARSER]
    run = subprocess.run(command, input=paths, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, f"puppet-terminus-puppetdb must be installed: {run.stderr}"
    verdicts = [json.loads(line) for line in run.stdout.split("\n") if line]
    assert len(verdicts) == len(cases)
    for case, verdict in zip(cases, verdicts, strict=True):
        assert ("ok" if verdict["ok"] else "error") == case["stock"], (case["name"], verdict)
        if verdict["ok"] and case["ours"] == "ok" and "urls" in case:
            assert verdict["urls"] == case["urls"], case["name"]
