"""docs/team.md and the files of deploy/: they fit each other, and what reads them can read them."""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import hatch_build
from csp_engine.cli import app
from tools import cli_reference

ROOT = cli_reference.ROOT
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "team.md").read_text("utf-8")
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text("utf-8")
NGINX = (DEPLOY / "nginx.conf").read_text("utf-8")
VARIABLE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")


def settings(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


EXAMPLE = settings((DEPLOY / "example.env").read_text("utf-8"))
FILLED = {name: value or "x" * 24 for name, value in EXAMPLE.items()}


def filled(text: str, given: dict[str, str]) -> str:
    """A compose file as compose reads it: variables replaced, or the sentence of a missing one."""

    def value(found: re.Match[str]) -> str:
        name, how, word = found.groups()
        if given.get(name):
            return given[name]
        if how == "?":
            raise KeyError(f"{name}: {word}")
        return word or ""

    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return VARIABLE.sub(value, "\n".join(lines))


COMPOSE = yaml.safe_load(filled(COMPOSE_TEXT, FILLED))
SERVICES = COMPOSE["services"]
REPLICAS = {name: each for name, each in SERVICES.items() if name.startswith("app-")}


def address(name: str) -> str:
    return SERVICES[name]["networks"]["inner"]["ipv4_address"]


def instructions() -> list[tuple[str, str]]:
    """The container file as builders read it: an instruction and the rest of its line."""
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


STEPS = instructions()


def of(kind: str) -> list[str]:
    return [rest for name, rest in STEPS if name == kind]


def test_the_image_serves_as_an_account_without_rights_and_has_a_health_check():
    known = {"ARG", "FROM", "ENV", "WORKDIR", "RUN", "COPY", "USER", "EXPOSE", "VOLUME",
             "STOPSIGNAL", "HEALTHCHECK", "CMD"}  # fmt: skip
    assert {name for name, _ in STEPS} <= known
    last = max(at for at, (name, _) in enumerate(STEPS) if name == "FROM")
    final = STEPS[last:]
    (user,) = (rest for name, rest in final if name == "USER")
    assert int(user) > 0
    assert f"--uid {user}" in next(rest for name, rest in final if name == "RUN")
    after = [name for name, _ in final[[name for name, _ in final].index("USER") :]]
    assert "RUN" not in after
    assert "COPY" not in after
    (health,) = of("HEALTHCHECK")
    check = json.loads(health[health.index("CMD ") + 4 :])
    assert check[0] == "python"
    compile(check[2], "HEALTHCHECK", "exec")
    assert "/_stcore/health" in check[2]
    started = json.loads(of("CMD")[0])
    assert started[:2] == ["csp", "serve"]
    get_command(app).commands["serve"].make_context("serve", started[2:], resilient_parsing=False)
    (port,) = of("EXPOSE")
    assert started[started.index("--port") + 1] == port
    assert f":{port}/" in check[2]


def test_the_image_never_gets_cuda():
    (torch,) = (step for step in of("RUN") if "tools/install.py" in step)
    assert "tools/install.py --without-cuda" in torch
    assert "-r requirements.txt" not in " ".join(of("RUN"))
    stages = [step.split()[-1] for step in of("FROM")]
    assert stages == ["build", "${BASE}"]
    assert [step for step in of("COPY") if "--from" in step] == ["--from=build /opt/csp /opt/csp"]


def is_sent(path: str, rules: list[str]) -> bool:
    """Whether a file goes to the builder, by ``.dockerignore``: the last rule that fits counts."""
    ends = [path, *map(str, Path(path).parents)][:-1]
    sent = True
    for rule in rules:
        pattern = rule.removeprefix("!")
        if pattern == "**" or any(
            fnmatch.fnmatch(end, pattern)
            or (pattern.startswith("**/") and fnmatch.fnmatch(Path(end).name, pattern[3:]))
            for end in ends
        ):
            sent = rule.startswith("!")
    return sent


def test_the_builder_is_sent_all_that_the_package_needs_and_little_else():
    rules = settings_lines((ROOT / ".dockerignore").read_text("utf-8"))
    kinds = [*hatch_build.KINDS, "csp_engine/**/*.py", "pyproject.toml", "hatch_build.py"]
    kinds += [PROJECT["readme"], "LICENSE"]
    for step in of("COPY"):
        if "--from" not in step and step != ". .":
            kinds += [source.rstrip("/") for source in step.split()[:-1]]
    for kind in kinds:
        found = [each for each in ROOT.glob(kind) if each.is_file() and each.suffix != ".pyc"]
        assert found, kind
        unsent = [str(each.relative_to(ROOT)) for each in found]
        assert [each for each in unsent if not is_sent(each, rules)] == [], kind
    for path in ("tests/conftest.py", ".git/HEAD", "bundles/a.csp/manifest.json",
                 ".streamlit/secrets.toml", "docs/img/audit.webp", ".venv/bin/python"):  # fmt: skip
        assert not is_sent(path, rules), path


def test_passwords_go_neither_to_the_builder_nor_into_git():
    """What is filled in as the page says, and the file of secrets for signing in beside it."""
    rules = settings_lines((ROOT / ".dockerignore").read_text("utf-8"))
    for path in ("deploy/.env", "deploy/sign-in.toml", "deploy/neurons.key", ".env", "a/.env"):
        assert not is_sent(path, rules), path
    ignored = settings_lines((ROOT / ".gitignore").read_text("utf-8"))
    assert "/deploy/.env" in ignored


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def settings_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_example_names_every_setting_and_those_that_must_be_given_are_asked_for():
    named = {found[1] for found in VARIABLE.finditer(COMPOSE_TEXT)}
    assert set(EXAMPLE) <= named
    assert named - set(EXAMPLE) == {"CSP_VERSION"}
    needed = {found[1] for found in VARIABLE.finditer(COMPOSE_TEXT) if found[2] == "?"}
    assert {"POSTGRES_PASSWORD", "COOKIE_SECRET", "CSP_HOST", "CSP_BUNDLES_FOLDER"} <= needed
    for name in needed:
        with pytest.raises(KeyError, match=name):
            filled(COMPOSE_TEXT, {**FILLED, name: ""})
    (unset,) = {name for name in EXAMPLE if not EXAMPLE[name]} - needed
    assert unset == "CSP_METRICS_TOKEN"


def test_replicas_are_alike_and_differ_in_their_address_alone():
    assert len(REPLICAS) >= 2
    rest = [{k: v for k, v in each.items() if k != "networks"} for each in REPLICAS.values()]
    assert all(each == rest[0] for each in rest)
    each = rest[0]
    assert each["read_only"] is True
    assert each["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in each["security_opt"]
    assert "ports" not in each
    assert {volume.rpartition(":")[2] for volume in each["volumes"]} == {"ro"}
    assert str(each["environment"]["CSP_READ_ONLY"]) == "1"
    assert (ROOT / each["build"]["dockerfile"]).is_file()
    assert set(each["environment"]["STREAMLIT_SERVER_ALLOWED_HOSTS"].split()) >= set(REPLICAS)
    secrets = tomllib.loads((DEPLOY / "no-sign-in.toml").read_text("utf-8"))
    assert secrets == {}
    assert COMPOSE["secrets"]["sign_in"]["file"] == "./no-sign-in.toml"
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "csp_engine").rglob("*.py"))
    code += "\n".join(path.read_text("utf-8") for path in (ROOT / "pages").rglob("*.py"))
    ours = [name for name in each["environment"] if name.startswith("CSP_")]
    assert [name for name in ours if f'"{name}"' not in code] == []


def test_every_service_is_bounded_and_looked_after():
    for name, service in SERVICES.items():
        assert service["restart"] == "unless-stopped", name
        assert service["mem_limit"], name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        for other, what in service.get("depends_on", {}).items():
            assert other in SERVICES
            assert what["condition"] == "service_healthy"
    (health,) = of("HEALTHCHECK")
    check = health[health.index("CMD ") + 4 :]
    for each in REPLICAS.values():
        assert each["healthcheck"]["test"] == ["CMD", *json.loads(check)]
    assert set(COMPOSE["volumes"]) == {"verdicts"}
    assert SERVICES["db"]["volumes"] == ["verdicts:/var/lib/postgresql/data"]
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    user, database = (SERVICES["db"]["environment"][f"POSTGRES_{what}"] for what in ("USER", "DB"))
    url = REPLICAS["app-1"]["environment"]["CSP_REVIEWS"]
    assert re.fullmatch(rf"postgresql\+psycopg://{user}:x+@db/{database}", url)


def test_the_proxy_asks_every_replica_and_the_replicas_believe_it():
    assert re.findall(r"server ([\d.]+):8501", NGINX) == [address(name) for name in REPLICAS]
    assert REPLICAS["app-1"]["environment"]["CSP_PROXY"] == address("proxy")
    (pool,) = COMPOSE["networks"]["inner"]["ipam"]["config"]
    net, given_out = (ipaddress.ip_network(pool[key]) for key in ("subnet", "ip_range"))
    for name in (*REPLICAS, "proxy"):
        assert ipaddress.ip_address(address(name)) in net
        assert ipaddress.ip_address(address(name)) not in given_out
    for path in ("/metrics", "/_stcore/metrics"):
        assert f"location = {path} {{ return 404; }}" in NGINX
    limit = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))
    assert f"client_max_body_size {limit['server']['maxUploadSize']}m;" in NGINX


def test_nginx_reads_its_file(tmp_path):
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not os.access(program, os.X_OK):
        pytest.skip("nginx is not installed (Debian's package nginx-light)")
    certificates = SERVICES["proxy"]["volumes"][1].split(":")[1]
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
               "-keyout", tmp_path / "neurons.key", "-out", tmp_path / "neurons.pem"]  # fmt: skip
    subprocess.run(openssl, check=True, capture_output=True)
    text = NGINX.replace(certificates, str(tmp_path)).replace("/var/log/nginx", str(tmp_path))
    (tmp_path / "default.conf").write_text(text, "utf-8")
    whole = f"pid {tmp_path}/pid; events {{ }} http {{ include {tmp_path}/default.conf; }}"
    (tmp_path / "nginx.conf").write_text(whole, "utf-8")
    read = subprocess.run(
        [program, "-t", "-c", tmp_path / "nginx.conf", "-e", tmp_path / "errors"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert read.returncode == 0, read.stderr


def commands() -> list[list[str]]:
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", PAGE, re.M | re.S)
    return [
        shlex.split(line, comments=True) for line in "".join(blocks).splitlines() if line.strip()
    ]


def test_the_commands_name_files_services_and_options_that_exist():
    for words in commands():
        if words[0] == "docker":
            assert words[1:4] == ["compose", "-f", "deploy/compose.yaml"]
            named = [word for word in words[5:] if re.fullmatch(r"app-\d|db|proxy", word)]
            assert set(named) <= set(SERVICES)
            assert named or words[4] in ("up", "build"), words
        if "csp" in words:
            asked = words[words.index("csp") + 1 :]
            asked = asked[: asked.index(">")] if ">" in asked else asked
            command = get_command(app).commands[asked[0]]
            options = {option for each in command.params for option in each.opts}
            assert {word for word in asked if word.startswith("--")} <= options
    assert "example.env" in PAGE
    assert (DEPLOY / "example.env").is_file()


def test_the_limits_are_those_of_the_files():
    told = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", PAGE, re.M))
    assert REPLICAS["app-1"]["mem_limit"] == "4g"
    assert told["memory of a replica, with its encoder"] == "4 GB"
    assert "rate=40r/s" in NGINX
    assert "limit_conn open 200;" in NGINX
    assert told["requests of one address"] == "40 a second, 200 at once"


def test_compose_itself_reads_the_file(tmp_path):
    """Where it is installed; it asks no daemon. Version 1 does not know ``name`` yet."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    folder = tmp_path / "deploy"
    shutil.copytree(DEPLOY, folder)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in FILLED.items()))
    file = folder / "compose.yaml"
    file.write_text(COMPOSE_TEXT.replace(f"name: {COMPOSE['name']}\n", ""))
    done = subprocess.run(
        [program, "-f", file.name, "config"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)["services"]
    assert read.keys() == SERVICES.keys()
    for name, service in SERVICES.items():
        expected = {key: str(value) for key, value in service.get("environment", {}).items()}
        assert read[name].get("environment", {}) == expected
