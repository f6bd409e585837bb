"""The server's arithmetic keeps to one core; what it starts may use them all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROBE = """
import os, threading
import app
app.late.made()
from threadpoolctl import threadpool_info
seen = []
visitor = threading.Thread(  # an OpenMP limit set by a call holds for the calling thread alone
    target=lambda: seen.extend(each["num_threads"] for each in threadpool_info())
)
visitor.start()
visitor.join()
print(sorted(set(seen)), os.environ.get("OMP_NUM_THREADS"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "told"), [(None, "[1] None"), ("2", "[2] 2")])
def test_a_page_uses_as_many_threads_as_chosen_or_one(chosen, told):
    if chosen and (os.cpu_count() or 1) < int(chosen):
        pytest.skip("this machine has one core")
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    env |= {"OMP_NUM_THREADS": chosen} if chosen else {}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.stdout.strip() == told, done.stderr
