"""Checks that this user may write to the folders named: what an empty volume took from the image that it was first mounted on.

A volume that was made in another way stays as it was; then this says so, instead of a server that cannot open its files.
"""

import sys
import tempfile

for folder in sys.argv[1:]:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        sys.exit(f"error: the volume at {folder} can't be written to: {error.strerror}\nhint: make obs.reset deletes all volumes and makes them anew")
