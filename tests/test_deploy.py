"What is deployed and released: container, compose file, dashboard, units, wheel."
import hashlib, json, os, re, shlex, shutil, subprocess, sys, urllib.request, zipfile
from configparser import ConfigParser
from pathlib import Path
import pytest, typer.main, yaml
from natron.candles import sample_candles
from natron.cli import app
from served import Served, natron

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/"tools"))
from dist import commit_time, faults

deploy = root/"deploy"
TOKEN = "0123456789abcdef0123456789abcdef"
dockerfile = (deploy/"Dockerfile").read_text()
compose = yaml.safe_load((deploy/"compose.yaml").read_text())
dashboard = json.loads((deploy/"grafana/natron.json").read_text())
units = sorted((deploy/"systemd").glob("*.service"))
settings = ConfigParser(delimiters=["="])
settings.read(root/"settings.ini")
pytestmark = pytest.mark.xdist_group("deploy")


def needs(program):
    "Skips a test where a program is not installed."
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def run(*command, **kw): return subprocess.run([str(c) for c in command], capture_output=True, text=True, **kw)


# The container

def instruction(name): return json.loads(re.findall(rf"^{name} (\[.*\])$", dockerfile, re.M)[-1])


# A file system that is read-only but for one folder, and a user without rights: as with `docker run --read-only`.
READ_ONLY = ('mount --bind "$0" "$0" && mount -o remount,bind,ro / && '
             'exec unshare --user --map-user=10001 --map-group=10001 -- "$@"')
isolates = run("unshare", "--user", "--map-root-user", "--mount", "true").returncode == 0


@pytest.fixture(scope="module")
def container(toy_model, tmp_path_factory):
    "The server that the image starts, with its arguments and environment, on free ports."
    folder = tmp_path_factory.mktemp("container")
    cache, runs = folder/"writable", folder/"srv/runs/toy"
    (cache/"tmp").mkdir(parents=True)
    runs.mkdir(parents=True)
    shutil.copy(toy_model, runs)
    compiled = hashlib.sha1(str(root/"natron").encode()).hexdigest()      # where numba looks; without, it takes longer
    kernels = cache/f"numba/natron_{compiled}"
    kernels.mkdir(parents=True)
    for p in (root/"natron/__pycache__").glob("*.nb[ci]"): shutil.copy(p, kernels)
    (folder/"token").write_text(TOKEN + "\n")
    env = dict(re.findall(r"(\w+)=(/var/cache/natron\S*)", dockerfile))
    env = {k: v.replace("/var/cache/natron", str(cache)) for k, v in env.items()}
    env |= dict(TMPDIR=str(cache/"tmp"), NATRON_TOKEN_FILE=str(folder/"token"))
    env |= dict(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    args = ["0" if a == "9000" else a for a in instruction("CMD")] + ["--port", "0"]
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, cache] if isolates else []
    with Served(*args, servers=2, program=[*before, deploy/"entrypoint.sh"], cwd=folder/"srv", **env) as s:
        s.port = s.urls[0].rpartition(":")[2]
        yield s


def ask(container, path, body=None, shows=f"Bearer {TOKEN}"):
    url = f"http://127.0.0.1:{container.port}{path}"
    request = urllib.request.Request(url, body, {"Authorization": shows})
    return urllib.request.urlopen(request).read().decode()


@pytest.mark.skipif(not isolates, reason="this machine lets nobody make user and mount namespaces")
def test_a_container_with_a_read_only_root_answers(container):
    "Health check, page and prediction; the token comes from its file."
    assert container.urls[0].startswith("http://0.0.0.0:")
    check = [sys.executable, deploy/"health.py"]
    health = run(*check, env=dict(NATRON_HEALTH_URL=f"http://127.0.0.1:{container.port}/health"))
    assert health.returncode == 0 and json.loads(health.stdout)["status"] == "ok", health.stderr
    assert run(*check, env=dict(NATRON_HEALTH_URL=f"http://127.0.0.1:{container.port}/none")).returncode == 1
    csv = sample_candles()[-512:].to_csv().encode()
    assert "volatility" in json.loads(ask(container, "/predict_csv", csv))
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    page = browser.open(f"http://127.0.0.1:{container.port}/enter", f"token={TOKEN}".encode())
    assert page.url.endswith(f":{container.port}/") and b"gradio" in page.read()
    with pytest.raises(urllib.error.HTTPError) as e: ask(container, "/info", shows="Bearer wrong")
    assert e.value.code == 403
    assert os.stat(f"/proc/{container.p.pid}").st_uid == os.getuid()
    status = Path(f"/proc/{container.p.pid}/status").read_text()
    assert re.search(r"^CapEff:\s0+$", status, re.M)


def test_a_token_file_must_be_there(tmp_path):
    r = run(deploy/"entrypoint.sh", "--help", env=dict(PATH=os.environ["PATH"], NATRON_TOKEN_FILE=str(tmp_path/"none")))
    assert r.returncode != 0 and "none: No such file" in r.stderr


def test_dockerfile():
    "The linter finds nothing; the server is no root and starts as the documentation says."
    lint = run(Path(sys.executable).parent/"hadolint", deploy/"Dockerfile")
    assert (lint.returncode, lint.stdout) == (0, "")
    assert re.findall(r"^USER (\S+)$", dockerfile, re.M) == ["10001:10001"]
    assert instruction("ENTRYPOINT") == ["/opt/natron/deploy/entrypoint.sh"]
    context(instruction("CMD"))
    health = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", dockerfile, re.M)[1]
    assert json.loads(health) == ["python", "/opt/natron/deploy/health.py"]


def context(command):
    "Read a command of natron, which runs nothing; raises what it would say of a wrong option."
    commands = typer.main.get_command(app).commands
    return commands[command[0]].make_context(command[0], list(command[1:]))


def in_context(path):
    "Whether .dockerignore lets a file of the project into the build: the last line that fits decides."
    inside = True
    for line in (root/".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"): continue
        pattern, taken = line.removeprefix("!"), line.startswith("!")
        deep, parts = pattern.startswith("**/"), [path, *path.parents][:-1]
        fits = any(p.name == pattern[3:] if deep else str(p) == pattern for p in parts)
        if fits or pattern == "*": inside = taken
    return inside


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    "Two wheels: of what the image's build sees, and of the project without what git ignores."
    made = []
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=root).stdout
    files = [Path(n) for n in listed.splitlines()]
    for taken in (in_context, lambda p: True):
        copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
        for p in files:
            if not taken(p) or not (root/p).is_file(): continue
            (copy/p).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root/p, copy/p)
        uv = [sys.executable, "-m", "uv", "--quiet"]
        env = os.environ | {"SOURCE_DATE_EPOCH": commit_time()}
        built = run(*uv, "build", "--wheel", "--no-build-isolation", "--out-dir", out, copy, env=env)
        assert built.returncode == 0, built.stderr
        made.append(next(out.glob("*.whl")))
    return made


def test_the_image_is_built_from_what_it_needs(wheels):
    "`.dockerignore` keeps nothing out that the wheel or the Dockerfile wants, and lets no secret, run or test in."
    assert faults(wheels[0]) == []
    for sources in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", dockerfile, re.M):
        for name in sources.split():
            if name != ".": assert in_context(Path(name)) and (root/name).exists(), name
    assert in_context(Path("tools/install.py")) and in_context(Path("constraints.txt"))
    for name in ("deploy/secrets/natron_token", ".git/config", ".venv/bin/python", "runs/demo/natron_v2.pt",
                 "tests/served.py", "nbs/00_core.ipynb", "natron/__pycache__/a.nbc"):
        assert not in_context(Path(name)), name


# A release

def test_the_same_sources_give_the_same_wheel(wheels):
    assert wheels[0].read_bytes() == wheels[1].read_bytes()


def test_faults_of_a_wheel_are_named(wheels, tmp_path):
    changed = tmp_path/wheels[0].name
    with zipfile.ZipFile(wheels[0]) as old, zipfile.ZipFile(changed, "w") as new:
        for n in old.namelist():
            if n != "natron/data/README.md": new.writestr(n, old.read(n))
        new.writestr("tests/test_x.py", "")
    assert faults(changed) == ["lacks natron/data/README.md", "should not have tests/test_x.py"]


def test_the_source_distribution_can_be_built():
    "What setup.py reads is named in MANIFEST.in, which names only what is there."
    lines = [l.split() for l in (root/"MANIFEST.in").read_text().splitlines()]
    lines = [words for words in lines if words and words[0] in ("include", "graft")]
    named = {n for kind, *names in lines for n in names}
    assert {"settings.ini", "constraints.txt", "LICENSE", "CHANGELOG.md", "configs", "data", "nbs"} <= named
    for n in named: assert (root/n).exists(), n


def test_the_changelog_tells_of_this_version():
    heads = re.findall(r"^## \[(.+?)\]", (root/"CHANGELOG.md").read_text(), re.M)
    assert heads[:2] == ["Unreleased", settings["DEFAULT"]["version"]]


def test_licences_are_told():
    "The project's own, and of each data file its source and licence."
    assert "Apache License" in (root/"LICENSE").read_text()
    told = (root/"data/README.md").read_text()
    for p in (root/"data").glob("*.csv.gz"): assert f"`{p.name}`" in told, p.name
    assert told.count("| licence |") == 2


# The compose file

def test_compose_opens_nothing_to_other_machines_and_lets_nothing_be_written():
    for name, s in compose["services"].items():
        assert all(p.startswith("127.0.0.1:") for p in s["ports"]), name
        assert s["read_only"] is True, name
        assert s["cap_drop"] == ["ALL"], name
        assert s["security_opt"] == ["no-new-privileges:true"], name
        assert re.search(r":v?\d+\.\d+\.\d+$", s["image"]), name
    assert compose["services"]["natron"]["image"] == f"natron:{settings['DEFAULT']['version']}"


def test_compose_names_what_is_there():
    "Files that are mounted, volumes, secrets and the Dockerfile."
    mounts = [m.split(":")[0] for s in compose["services"].values() for m in s["volumes"]]
    for m in mounts:
        if not m.startswith("."): assert m in compose["volumes"], m
        elif m != "../runs": assert (deploy/m).is_file(), m
    used = {n for s in compose["services"].values() for n in s["secrets"]}
    assert used == set(compose["secrets"])
    build = compose["services"]["natron"]["build"]
    assert (deploy/build["context"]/build["dockerfile"]).samefile(deploy/"Dockerfile")
    assert all(re.search(rf"^ARG {a}=", dockerfile, re.M) for a in build["args"])


def mounted(service, target):
    "The file of the project that a service sees at a path."
    found = [m.split(":")[0] for m in compose["services"][service]["volumes"] if m.split(":")[1] == target]
    return deploy/found[0]


@needs("promtool")
def test_promtool_accepts_the_configuration(tmp_path):
    text = mounted("prometheus", "/etc/prometheus/prometheus.yml").read_text()
    for path in re.findall(r"(/etc/prometheus/\w+\.yml|/run/secrets/\w+)", text):
        text = text.replace(path, str(tmp_path/Path(path).name))
        if path.startswith("/run"): (tmp_path/Path(path).name).write_text(TOKEN)
        else: shutil.copy(mounted("prometheus", path), tmp_path)
    (tmp_path/"prometheus.yml").write_text(text)
    checked = run("promtool", "check", "config", tmp_path/"prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


# The dashboard

expressions = {f"{p['title']} {t['refId']}": t["expr"] for p in dashboard["panels"] for t in p["targets"]}
WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}


def metrics_of(expr):
    "The metrics that a PromQL expression reads."
    plain = re.sub(r'"[^"]*"', "", expr)
    plain = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring|group_left|group_right) *\([^)]*\)", " ", plain)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?! *\()", plain)) - WORDS


def test_metrics_of_an_expression():
    asked = 'sum by (le) (rate(a_bucket{kind!~"x|y"}[5m])) / on (task) group_left () max(b)'
    assert metrics_of(asked) == {"a_bucket", "b"}


def test_dashboard_reads_what_the_server_exports(container):
    exported = {"up"}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", ask(container, "/metrics"), re.M):
        exported |= {name + e for e in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    for where, expr in expressions.items(): assert metrics_of(expr) <= exported, where


def test_dashboard_is_whole():
    "Panels with ids of their own that do not overlap; the data source is the provisioned one."
    read = lambda kind: yaml.safe_load(mounted("grafana", f"/etc/grafana/provisioning/{kind}/natron.yaml").read_text())
    source, provider = read("datasources")["datasources"][0], read("dashboards")["providers"][0]
    assert mounted("grafana", f"{provider['options']['path']}/natron.json").is_file()
    ids = [p["id"] for p in dashboard["panels"]]
    assert len(ids) == len(set(ids)) and dashboard["uid"] == "natron"
    places = [p["gridPos"] for p in dashboard["panels"]]
    cells = [(g["x"]+x, g["y"]+y) for g in places for x in range(g["w"]) for y in range(g["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23
    for p in dashboard["panels"]:
        refs = [t["refId"] for t in p["targets"]]
        assert refs and len(refs) == len(set(refs)) and p["title"]
        asked = [p["datasource"], *(t["datasource"] for t in p["targets"])]
        assert all(s == {"type": source["type"], "uid": source["uid"]} for s in asked), p["title"]


@needs("promtool")
def test_promtool_accepts_the_expressions(tmp_path):
    plain = [e.replace("$__rate_interval", "1m") for e in expressions.values()]
    rules = [dict(record=f"panel_{k}", expr=e) for k, e in enumerate(plain)]
    (tmp_path/"rules.yml").write_text(yaml.safe_dump(dict(groups=[dict(name="dashboard", rules=rules)])))
    checked = run("promtool", "check", "rules", tmp_path/"rules.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


# systemd

@needs("systemd-analyze")
@pytest.mark.parametrize("unit", units, ids=lambda p: p.stem)
def test_units_are_right_and_hardened(unit, tmp_path):
    "Nothing to complain of, and an exposure of 1.2 of 10, as the tool counts."
    (tmp_path/unit.name).write_text(unit.read_text().replace("/opt/natron/bin/natron", natron))
    verified = run("systemd-analyze", "verify", tmp_path/unit.name)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert run("systemd-analyze", "security", "--offline=true", "--threshold=12", unit).returncode == 0


def test_units_take_their_options_from_the_environment_file():
    example = dict(re.findall(r"^(\w+)=(.*)$", (deploy/"natron.env.example").read_text(), re.M))
    for unit in units:
        command, name = re.search(r"^ExecStart=/opt/natron/bin/natron (\w+) \$(\w+)$", unit.read_text(), re.M).groups()
        context([command, *shlex.split(example.pop(name))])
    assert example == {"NATRON_TOKEN": ""}
