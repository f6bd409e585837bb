"""docs/deploy.md: what it names exists, and its examples can be read by what they are for."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import tomllib

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from streamlit import config

from csp_engine.cli import serving
from csp_engine.http.metrics import Asked, Metrics, Sources
from pages.ui.shell import access
from tools import cli_reference

ROOT = cli_reference.ROOT
PAGE = (ROOT / "docs" / "deploy.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    return found


def test_every_variable_of_ours_is_one_that_the_code_reads():
    code = "\n".join(
        path.read_text("utf-8")
        for folder in ("csp_engine", "pages")
        for path in (ROOT / folder).rglob("*.py")
    )
    named = set(re.findall(r"\bCSP_[A-Z_]+", PAGE))
    assert named >= {access.READ_ONLY}
    assert {name for name in named if f'"{name}"' not in code} == set()


def test_every_variable_of_streamlit_is_one_of_its_settings():
    known = {
        "STREAMLIT_" + re.sub(r"(?<=[a-z])(?=[A-Z])|\.", "_", key).upper()
        for key in config.get_config_options()
    }
    named = set(re.findall(r"STREAMLIT_[A-Z_]+", PAGE))
    assert len(named) > 3
    assert named - known == set()


def test_the_settings_of_sign_in_are_read_as_the_page_says():
    secrets = tomllib.loads(block("toml"))
    assert set(secrets["auth"]) == {
        "redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url",
    }  # fmt: skip
    assert access._is_listed("bob@example.org", secrets["access"])
    assert access._is_listed("ada@example.com", secrets["access"])
    assert not access._is_listed("eve@example.com", secrets["access"])


def test_the_service_only_shows():
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read_string(block("ini"))
    started = shlex.split(unit["Service"]["ExecStart"])
    assert started[1] == "serve"
    assert "--read-only" in started


def test_the_table_of_metrics_is_what_a_server_gives():
    told = dict(re.findall(r"^\| `((?:csp|process)_\w+)`[^|]*\| ([^|]*)\|", PAGE, re.M))
    asked = Asked(0, 0, os.getpid())
    given = Metrics(Sources(lambda: {"a": "b"}, lambda: {"done": 1}, lambda: {"maps": asked}))
    given.requests.labels("page", "GET", "200").inc()
    given.seconds.labels("page").observe(1.0)
    found = {}
    for family in text_string_to_metric_families(given.written()[0].decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = labels
    ours = {name for name in found if name.startswith("csp_")}
    ours = {name for name in ours if not name.endswith("_created")}
    assert ours == {name for name in told if name.startswith("csp_")}
    for name in ours:
        assert set(re.findall(r"`(\w+)`", told[name])) == found[name], name
    assert set(told) - ours <= set(found)
    (config,) = yaml.safe_load(block("yaml"))["scrape_configs"]
    assert config["metrics_path"] == "/nb/metrics"


@pytest.mark.parametrize("language", ["nginx", "caddy"])
def test_both_proxies_keep_a_visitor_on_one_replica(language):
    text = block(language)
    assert text.count("{") == text.count("}")
    assert "ip_hash" in text or "lb_policy cookie" in text
    assert "/nb/_stcore/metrics" in text
    assert re.search(r"/nb/metrics\b", text)
    if language == "nginx":
        for header in ("Host", "Upgrade", "Connection"):
            assert f"proxy_set_header {header} " in text


def test_the_upload_limit_is_the_one_that_is_set():
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))
    limit = settings["server"]["maxUploadSize"]
    assert f"({limit}) |" in PAGE
    assert f"client_max_body_size {limit}m;" in PAGE


@pytest.mark.parametrize(("asked", "told"), [(True, "1"), (False, "0"), (None, None)])
def test_serve_hands_on_whether_it_only_shows(monkeypatch, tmp_path, asked, told):
    seen = {}

    class StoppedError(Exception):
        pass

    def stop(command, env, cwd):
        seen.update(env)
        raise StoppedError

    monkeypatch.delenv("CSP_READ_ONLY", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serving.subprocess, "Popen", stop)
    with pytest.raises(StoppedError):
        serving.serve([], port=8791, read_only=asked)
    assert seen.get("CSP_READ_ONLY") == told
    assert seen["CSP_START_FOLDER"] == str(tmp_path)
