"""A session of the AWS SDK, for those who ask AWS: its own chain of credentials, and what it knows of the services read once a process."""

from __future__ import annotations

import os
from functools import cache
from typing import Any


def session() -> Any:
    """A new session: boto3's default one is shared, and not safe to use from several threads.

    Raises:
        ModuleNotFoundError: boto3 is not installed.
        botocore.exceptions.BotoCoreError: the profile that is asked for is not there.
    """
    import boto3.session
    import botocore.session

    core = botocore.session.Session()
    core.register_component("data_loader", _descriptions(core.get_config_variable("data_path")))
    # The other SDKs' name for the region; boto3 itself knows AWS_DEFAULT_REGION and profiles.
    return boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None, botocore_session=core)


@cache
def _descriptions(search_path: str | None) -> Any:
    """What the SDK knows of the services. It would read that anew for each client, which is most of the time that one takes."""
    from botocore.loaders import create_loader

    return create_loader(search_path)
