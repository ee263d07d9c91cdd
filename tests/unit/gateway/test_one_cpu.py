"""The gateway's process keeps to one CPU."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pdbclient.gateway.one_cpu import keep_to_one_cpu

# In a process of its own: what is started by this one must not be kept to one.
_PROBE = """
import json, os, threading
from pdbclient.gateway.one_cpu import keep_to_one_cpu
{before}
allowed = os.sched_getaffinity(0)
keep_to_one_cpu()
found = [sorted(allowed), sorted(os.sched_getaffinity(0))]
thread = threading.Thread(target=lambda: found.append(sorted(os.sched_getaffinity(0))))
thread.start()
thread.join()
print(json.dumps(found))
"""


def _probed(before: str = "") -> list[list[int]]:
    code = _PROBE.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    found: list[list[int]] = json.loads(done.stdout)
    return found


class TestOneCpu:
    def test_the_process_and_its_threads_keep_to_one_of_those_that_it_has(self) -> None:
        allowed, own, of_thread = _probed()
        assert len(own) == 1
        assert own == of_thread
        assert own[0] in allowed

    def test_where_it_has_one_that_is_it(self) -> None:
        only = max(os.sched_getaffinity(0))
        assert _probed(f"os.sched_setaffinity(0, {{{only}}})") == [[only]] * 3

    def test_threads_that_run_at_once_have_all(self) -> None:
        allowed, own, of_thread = _probed("import sys; sys._is_gil_enabled = lambda: False")
        assert own == of_thread == allowed

    @pytest.mark.parametrize("error", [PermissionError(1, "not permitted"), OSError(22, "no such CPU")])
    def test_a_system_that_refuses_is_named_and_nothing_else_happens(
        self, error: OSError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*_: object) -> None:
            raise error

        monkeypatch.setattr(os, "sched_setaffinity", refuse)
        with caplog.at_level(logging.INFO, "pdbclient.gateway"):
            keep_to_one_cpu()
        (line,) = caplog.messages
        assert str(error) in line

    def test_where_whoever_tries_is_killed_it_is_not_tried(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As by a SystemCallFilter of a unit that is older than this."""
        killed = tmp_path / "python"
        killed.write_text("#!/bin/sh\nkill -SYS $$\n")
        killed.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(killed))
        allowed = os.sched_getaffinity(0)
        with caplog.at_level(logging.INFO, "pdbclient.gateway"):
            keep_to_one_cpu()
        (line,) = caplog.messages
        assert "SIGSYS" in line
        assert os.sched_getaffinity(0) == allowed
