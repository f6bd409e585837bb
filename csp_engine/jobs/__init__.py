"""Builds and reports as processes of their own; builds are watched and resumed through files.

A job is ``csp build`` in a session of its own, so it outlives who started it. All that is known of
it lies beside the bundle, in ``NAME.csp.job/``: what was asked for, the process, how far it is, and
what it wrote. Nothing here loads a network.
"""

from csp_engine.jobs.allowed import Allowed
from csp_engine.jobs.order import (
    MOST_COUNTED,
    BuildOrder,
    ImagesSeen,
    look_at_images,
)
from csp_engine.jobs.process import ask_for_layers
from csp_engine.jobs.progress import PROGRESS_FILE, ProgressFile, StageProgress
from csp_engine.jobs.reports import report_file
from csp_engine.jobs.running import (
    Job,
    cancel,
    forget,
    is_unfinished,
    job_folder,
    jobs_in,
    read_job,
    resume,
    start,
)
from csp_engine.jobs.trials import Trial, drop_trial, start_trial

__all__ = [
    "MOST_COUNTED",
    "PROGRESS_FILE",
    "Allowed",
    "BuildOrder",
    "ImagesSeen",
    "Job",
    "ProgressFile",
    "StageProgress",
    "Trial",
    "ask_for_layers",
    "cancel",
    "drop_trial",
    "forget",
    "is_unfinished",
    "job_folder",
    "jobs_in",
    "look_at_images",
    "read_job",
    "report_file",
    "resume",
    "start",
    "start_trial",
]
