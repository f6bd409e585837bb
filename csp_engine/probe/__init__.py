"""The probe set: which images there are, and each of them as upright RGB."""

from csp_engine.probe.columns import RESERVED, ROLE_COLUMNS, choose_columns
from csp_engine.probe.folders import image_files, walk_images
from csp_engine.probe.listing import (
    TABLE_EXTENSIONS,
    ProbeSet,
    read_probe_set,
    read_table,
)

__all__ = [
    "RESERVED",
    "ROLE_COLUMNS",
    "TABLE_EXTENSIONS",
    "ProbeSet",
    "choose_columns",
    "image_files",
    "read_probe_set",
    "read_table",
    "walk_images",
]
