"""What setup.cfg cannot say: whole directories that are installed below share/, as they are."""

import os
from pathlib import Path

from setuptools import setup

# share/ has the man page and the completions, once `make dist` made them; an sdist has them.
SHARED = {"share": "share", "puppet_conf_examples": "share/pdbclient/puppet_conf_examples"}


def shared():
    """Pairs as `data_files` takes them: a directory, and the files that are put there."""
    for source, target in SHARED.items():
        for directory, _, names in os.walk(source):
            if names:
                place = Path(target) / Path(directory).relative_to(source)
                yield str(place), [str(Path(directory) / name) for name in sorted(names)]


setup(data_files=list(shared()))
