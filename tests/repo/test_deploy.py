"""What is in deploy/: it says nothing that the command line and the configuration do not know.

Where the real tool is there (systemd-analyze), it is asked; Docker, Compose and Helm are not run here.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from objectio.cli.app import ObjectIOApp
from objectio.config import load_config
from objectio.config.load import RESERVED

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ENVIRONMENTS = sorted((DEPLOY / "systemd").glob("*.env"))
CHART = DEPLOY / "helm/objectio"
EXPOSURE_MAX = 2.0  # of ten: systemd-analyze security


@cache
def commands():
    spec = importlib.util.spec_from_file_location("deploy_pages", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return dict(module.kernel_commands())


def parse(words):
    """The arguments of `objectio …`, as the command understands them."""
    name, *rest = words
    parser = commands()[name](ObjectIOApp(), None, cmd_name=name).get_parser(f"objectio {name}")
    try:
        args = parser.parse_args(rest)
    except SystemExit:
        pytest.fail(f"objectio {shlex.join(words)}: not understood")
    load_config(None, env={}, overrides=args.overrides)  # --set
    return args


def check_environment(variables):
    """Every variable of ours is a setting with an allowed value, or one of the reserved ones."""
    ours = {name: str(value) for name, value in variables.items() if name.startswith("OBJECTIO_")}
    known = {name: value for name, value in ours.items() if name not in RESERVED}
    config = load_config(None, env=known)
    for name, value in known.items():
        section, _, key = name.removeprefix("OBJECTIO_").lower().partition("_")
        found = getattr(getattr(config, section), key)
        assert str(found).lower() == value, f"{name}={value} is {found}"
    return ours


def test_wrong_words_are_found():
    with pytest.raises(pytest.fail.Exception):
        parse(["gateway", "--listn", "127.0.0.1:9000"])
    with pytest.raises(Exception, match="nonsense"):
        check_environment({"OBJECTIO_GATEWAY_NONSENSE": "1"})
    with pytest.raises(Exception, match="domain"):
        parse(["meta", "--set", "pool.failure_domain=planet"])


# systemd.


def settings_of(path):
    found = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def environment_of(path):
    text = path.read_text()
    return dict(line.split("=", 1) for line in text.splitlines() if line and line[0] != "#")


def sample_for(unit):
    return DEPLOY / "systemd" / (unit.stem.replace("objectio-", "").replace("@", "-0") + ".env")


def test_there_is_a_unit_for_each_role():
    names = {unit.stem for unit in UNITS}
    assert names == {"objectio", "objectio-meta", "objectio-osd@", "objectio-gateway"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_units_command_is_one_of_ours(unit):
    settings = settings_of(unit)
    [command], [file] = settings["ExecStart"], settings["EnvironmentFile"]
    sample = sample_for(unit)
    assert Path(file.removeprefix("-").replace("%i", "0")) == Path("/etc/objectio") / sample.name
    variables = environment_of(sample)
    check_environment(variables)
    for name, value in variables.items():
        command = command.replace(f"${{{name}}}", value).replace(f"${name}", value)
    assert "$" not in command, command
    program, *words = command.replace("%i", "0").split()
    assert program == "/opt/objectio/bin/objectio"
    args = parse(words)
    assert [str(args.data)] == ["/var/lib/" + settings["StateDirectory"][0]]
    unused = {name for name in variables if not name.startswith("OBJECTIO_")}
    assert all(
        f"${name}" in unit.read_text() or f"${{{name}}}" in unit.read_text() for name in unused
    )


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_commented_variables_are_real(path):
    hidden = re.findall(r"^#(OBJECTIO_\w+)=(.*)$", path.read_text(), re.MULTILINE)
    check_environment(dict(hidden))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_the_unit(unit, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace("/opt/objectio/bin/objectio", sys.executable))
    done = subprocess.run([analyze, "verify", here], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    level = subprocess.run(
        [analyze, "security", "--offline=true", f"--threshold={int(EXPOSURE_MAX * 10)}", here],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert level.returncode == 0, level.stdout[-300:]


# Docker.


def dockerfile():
    """(keyword, rest) of each instruction, lines joined."""
    text = (DEPLOY / "docker/Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def targets():
    """By name: what the target says, and its base."""
    found, base = {}, ""
    for keyword, rest in dockerfile():
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = {"FROM": [base]}
        else:
            found[name].setdefault(keyword, []).append(rest)
    return found


@pytest.mark.parametrize("name", ["serve", "meta", "osd", "gateway"])
def test_an_image_runs_one_of_our_commands(name):
    target = targets()[name]
    assert target["FROM"] == ["base"]
    program, *words = json.loads(target["ENTRYPOINT"][0]) + json.loads(target["CMD"][0])
    assert (program, words[0]) == ("objectio", name)
    args = parse(words)
    assert str(args.data) == "/var/lib/objectio"
    _, _, check = target["HEALTHCHECK"][0].partition("CMD ")
    tool, port = json.loads(check)
    assert tool == "healthy"
    assert port in target["EXPOSE"][0].split()
    assert args.listen.rpartition(":")[2] in target["EXPOSE"][0].split()


def test_the_image_is_nobodys_root():
    base = targets()["base"]
    [user] = base["USER"]
    assert f"--uid {user.partition(':')[0]} " in base["RUN"][0]
    assert f"--gid {user.partition(':')[2]} " in base["RUN"][0]
    variables = dict(pair.split("=", 1) for pair in shlex.split(base["ENV"][0]))
    assert check_environment(variables)


def test_what_the_image_is_built_from_is_sent():
    taken = (DEPLOY / "docker/Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in taken if line.startswith("!")}
    assert all((ROOT / path).exists() for path in sent)
    own = [rest.split()[-2] for rest in targets()["base"]["COPY"] if "--from" not in rest]
    assert set(own) <= sent
    assert {"objectio", "plugins", "pyproject.toml", "constraints.txt"} <= sent


def test_the_health_check_fails_where_nothing_answers():
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        words = [sys.executable, DEPLOY / "docker/healthy.py", str(taken.getsockname()[1])]
        done = subprocess.run(words, capture_output=True, timeout=30)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


# Compose.

COMPOSE = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())


def test_the_store_of_compose_has_enough_of_everything():
    services = COMPOSE["services"]
    assert sorted(services) == ["gateway", "meta", *(f"osd-{n}" for n in range(6))]
    shape = parse(["meta", *services["meta"]["command"]]).ec
    assert sum(shape) <= sum(name.startswith("osd") for name in services)


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_of_compose(name):
    service = COMPOSE["services"][name]
    role = name.partition("-")[0]
    assert service["build"]["target"] == role
    assert (DEPLOY / "compose" / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    entry = json.loads(targets()[role]["ENTRYPOINT"][0])[1:]
    args = parse([*entry, *service["command"]])
    variables = check_environment(service["environment"])
    assert args.node_id == ("gateway-0" if role == "gateway" else name)
    if role == "osd":
        assert args.address == f"{name}:9200"
        assert args.disks == ["/disk/"]
        assert variables["OBJECTIO_CLUSTER_META_ENDPOINT"] == "http://meta:9100"
    mounted = dict(volume.split(":") for volume in service["volumes"])
    assert set(mounted) <= set(COMPOSE["volumes"])
    assert mounted["cluster"] == "/var/lib/objectio"
    if role != "meta":
        endpoint = (
            getattr(args, "meta_endpoint", None) or variables["OBJECTIO_CLUSTER_META_ENDPOINT"]
        )
        port = COMPOSE["services"]["meta"]["command"][3].rpartition(":")[2]
        assert endpoint == f"http://meta:{port}"


def test_each_disk_of_compose_has_one_owner():
    taken = [each for one in COMPOSE["services"].values() for each in one["volumes"]]
    disks = [each.split(":")[0] for each in taken if each.startswith("disk")]
    assert sorted(disks) == sorted(name for name in COMPOSE["volumes"] if name != "cluster")


# Helm. A small part of its templates' language is enough to see what they make.


class Chart:
    def __init__(self, **changes):
        self.values = yaml.safe_load((CHART / "values.yaml").read_text())
        for path, value in changes.items():
            *above, last = path.split("__")
            place = self.values
            for key in above:
                place = place[key]
            place[last] = value
        self.chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.asked = set()
        helpers = (CHART / "templates/_helpers.tpl").read_text()
        pattern = r'\{\{- define "([\w.]+)" -\}\}\n(.*?)\n\{\{- end \}\}'
        self.defined = dict(re.findall(pattern, helpers, re.DOTALL))

    def look_up(self, path, dot):
        if path == ".":
            return dot
        words = path.strip(".").split(".")
        if isinstance(dot, dict) and words[0] in dot:
            return dot[words[0]]
        if words[0] == "Values":
            value = self.values
            for word in words[1:]:
                value = value[word]
            self.asked.add(path)
            return value
        fixed = {"Release.Name": "store", "Release.Service": "Helm", "Release.Namespace": "s3"}
        fixed["Chart.AppVersion"] = self.chart["appVersion"]
        return fixed[".".join(words)]

    def evaluate(self, expression, dot):
        value, *pipes = (part.strip() for part in expression.split("|"))
        words = value.split()
        if words[0] == "include":
            given = re.findall(r'"([^"]*)"', value)[1:]
            assert words[2] == "." or (words[2] == "(dict" and given)
            below = dict(zip(given[::2], given[1::2], strict=True)) or dot
            result = self.render(self.defined[words[1].strip('"')], below)
        elif words[0] == "toYaml":
            result = yaml.safe_dump(self.look_up(words[1], dot)).strip()
        else:
            assert len(words) == 1, expression
            result = self.look_up(value, dot)
        for pipe in pipes:
            name, *rest = pipe.split()
            if name == "nindent":
                pad = " " * int(rest[0])
                result = "\n" + "\n".join(pad + line for line in result.splitlines())
            else:
                assert name == "quote", pipe
                result = json.dumps(str(result))
        return str(result)

    def render(self, text, dot=None):
        block = re.compile(r"\s*\{\{- (with|if|if not) (\S+) \}\}(.*?)\s*\{\{- end \}\}", re.DOTALL)

        def choose(match):
            value = self.look_up(match[2], dot)
            if bool(value) == (match[1] == "if not"):
                return ""
            return self.render(match[3], value if match[1] == "with" else dot)

        text = block.sub(choose, text)
        text = re.sub(r"\s*\{\{- (.*?) \}\}", lambda match: self.evaluate(match[1], dot), text)
        return re.sub(r"\{\{ (.*?) \}\}", lambda match: self.evaluate(match[1], dot), text)

    def objects(self):
        made = []
        for path in sorted((CHART / "templates").glob("*.yaml")):
            text = self.render(path.read_text())
            assert "{{" not in text, path
            made += [each for each in yaml.safe_load_all(text) if each is not None]
        return {(each["kind"], each["metadata"]["name"]): each for each in made}


WORKLOADS = {
    "meta": ("StatefulSet", "store-meta"),
    "osd": ("StatefulSet", "store-osd"),
    "gateway": ("Deployment", "store-gateway"),
}


def test_the_chart_makes_what_it_should():
    chart = Chart(monitoring__podMonitor=True, osd__storage__className="fast")
    objects = chart.objects()
    assert {kind for kind, _ in objects} == {
        *("Service", "StatefulSet", "Deployment", "PodDisruptionBudget", "PodMonitor")
    }
    claim = objects["StatefulSet", "store-osd"]["spec"]["volumeClaimTemplates"][0]["spec"]
    assert claim["storageClassName"] == "fast"
    plain = Chart().objects()
    assert ("PodMonitor", "store") not in plain
    claim = plain["StatefulSet", "store-meta"]["spec"]["volumeClaimTemplates"][0]["spec"]
    assert "storageClassName" not in claim
    assert plain["StatefulSet", "store-meta"]["spec"]["replicas"] == 1
    for each in objects.values():
        assert each["apiVersion"]
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "store"


def test_every_value_is_used():
    chart = Chart(
        monitoring__podMonitor=True,
        osd__storage__className="a",
        meta__storage__className="b",
        tls__secretName="c",
    )
    chart.objects()
    chart.render((CHART / "templates/NOTES.txt").read_text())

    def leaves(value, path):
        if isinstance(value, dict) and path not in chart.asked:
            for key, below in value.items():
                yield from leaves(below, f"{path}.{key}")
        else:
            yield path

    assert set(leaves(chart.values, ".Values")) == chart.asked


@pytest.mark.parametrize("secret", ["", "store-tls"])
@pytest.mark.parametrize("role", WORKLOADS)
def test_a_pod_runs_one_of_our_commands(role, secret):
    objects = Chart(tls__secretName=secret).objects()
    spec = objects[WORKLOADS[role]]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    entry = json.loads(targets()[role]["ENTRYPOINT"][0])[1:]
    args = parse([*entry, *container["args"]])
    names = {variable["name"] for variable in container["env"]}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(container["args"]))) <= names
    environment = {each["name"]: each.get("value", "x") for each in container["env"]}
    check_environment(environment)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    http = "https" if secret and role == "gateway" else "http"
    probes = [value["httpGet"] for key, value in container.items() if key.endswith("Probe")]
    assert {(each["port"], each["scheme"]) for each in probes} == {(http, http.upper())}
    files = {name for name in environment if "_TLS_" in name}
    assert bool(files) == ("tls" in {each["name"] for each in pod["volumes"]}) == (http == "https")
    assert int(args.listen.rpartition(":")[2]) in ports.values()
    if role == "gateway":
        assert ports[http] == int(args.listen.rpartition(":")[2])
    else:
        assert ports["http"] == int(args.metrics_listen.rpartition(":")[2])
    if role != "meta":
        assert args.meta_endpoint == "http://store-meta:9100"
    volumes = {each["name"] for each in pod["volumes"]}
    volumes |= {each["metadata"]["name"] for each in spec.get("volumeClaimTemplates", ())}
    for each in (container, *pod["initContainers"]):
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes
        assert each["securityContext"]["readOnlyRootFilesystem"] is True
        assert each["image"] == f"objectio:{role}"
    assert pod["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize("secret", ["", "store-tls"])
@pytest.mark.parametrize(("service", "role"), [("-meta", "meta"), ("-osd", "osd"), ("", "gateway")])
def test_a_service_leads_to_its_pods(service, role, secret):
    objects = Chart(tls__secretName=secret).objects()
    spec = objects["Service", f"store{service}"]["spec"]
    template = objects[WORKLOADS[role]]["spec"]["template"]
    assert spec["selector"].items() <= template["metadata"]["labels"].items()
    assert spec["selector"]["app.kubernetes.io/component"] == role
    names = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in spec["ports"]} <= names


def test_keys_are_brought_and_never_overwritten(tmp_path):
    [container] = Chart().objects()[WORKLOADS["meta"]]["spec"]["template"]["spec"]["initContainers"]
    secret, data = tmp_path / "keys", tmp_path / "data"
    secret.mkdir()
    data.mkdir()
    for name in ("cluster.secret", "keyring.json"):
        (secret / name).write_text(f"brought {name}")
    (data / "keyring.json").write_text("newer")
    [script] = container["args"]
    script = script.replace("/keys/", f"{secret}/").replace("/var/lib/objectio/", f"{data}/")
    subprocess.run([*container["command"], script], check=True, timeout=30)
    assert (data / "keyring.json").read_text() == "newer"
    assert (data / "cluster.secret").read_text() == "brought cluster.secret"
    assert (data / "cluster.secret").stat().st_mode & 0o777 == 0o600
