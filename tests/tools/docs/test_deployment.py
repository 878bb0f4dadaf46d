"""What the pages show for the operation of workers and relays fits their command line."""

from __future__ import annotations

import argparse
import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.pages import PAGES, ROOT, blocks

from aksara_signals import cli
from aksara_signals.contrib import opentelemetry
from aksara_signals.contrib.outbox.worker.health import COUNTED
from aksara_signals.contrib.outbox.worker.settings import Settings

COMMAND = "aksara-signals"
PAGE = ROOT / "docs" / "howto" / "deploy-workers.rst"


def parsed(arguments: list[str]) -> argparse.Namespace:
    """What the command line makes of a command; an option that it doesn't know is an error."""
    assert Path(arguments[0]).name == COMMAND
    return cli._parser().parse_args(arguments[1:])


def command_lines(text: str) -> Iterator[list[str]]:
    """The commands of ours in the ``console`` and ``text`` blocks of a page."""
    for language in ("console", "text"):
        for block in blocks(text, language):
            for line in block.code.replace("\\\n", " ").splitlines():
                for part in re.split(r" && | \|\| ", line.strip().removeprefix("$ ")):
                    if part.startswith(f"{COMMAND} "):
                        yield [word for word in shlex.split(part) if word != "[options]"]


WITH_COMMANDS = [page for page in PAGES if [*command_lines(page.read_text(encoding="utf-8"))]]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_the_options_that_there_are(page: Path) -> None:
    """Each command of a page can be parsed."""
    for arguments in command_lines(page.read_text(encoding="utf-8")):
        if arguments[1] != "--version":
            parsed(arguments)


def files(language: str) -> dict[str, str]:
    """The files of the page in a language."""
    text = PAGE.read_text(encoding="utf-8")
    found = {block.caption: block.code for block in blocks(text, language)}
    return {name: code for name, code in found.items() if name is not None}


def grace_seconds(options: argparse.Namespace) -> float:
    return getattr(options, "grace_seconds", Settings().grace_seconds)


@pytest.mark.parametrize("name", ["blog-worker@.service", "blog-relay.service"])
def test_a_unit_of_systemd(name: str) -> None:
    """It runs the command, has a folder for the health file, and stops later than the command."""
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(files("ini")[name])
    service = unit["Service"]
    options = parsed(shlex.split(service["ExecStart"]))
    assert name.startswith(f"blog-{options.command}")
    assert options.health_file.parent == Path("/run") / service["RuntimeDirectory"]
    assert float(service["TimeoutStopSec"]) > grace_seconds(options)


def test_the_compose_file() -> None:
    """Its commands can be parsed, its health checks look at their files, names are those of it."""
    services = yaml.safe_load(files("yaml")["compose.yaml"])["services"]
    served: list[str] = []
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        arguments = shlex.split(service["command"])
        if arguments[0] != COMMAND:
            continue
        options = parsed(arguments)
        served += options.receivers
        assert f" {options.health_file})" in service["healthcheck"]["test"]
        assert float(service["stop_grace_period"].removesuffix("s")) > grace_seconds(options)
    assert len(served) == len(set(served)) == 2


@pytest.mark.parametrize("name", ["worker", "relay"])
def test_a_manifest_for_kubernetes(name: str) -> None:
    """Its command can be parsed, its probes look at its file, and it is killed after its end."""
    manifest = yaml.safe_load(files("yaml")[f"{name}.yaml"])
    template = manifest["spec"]["template"]
    assert template["metadata"]["labels"] == manifest["spec"]["selector"]["matchLabels"]
    [container] = template["spec"]["containers"]
    options = parsed(container["args"])
    assert options.command == container["name"] == name
    assert template["spec"]["terminationGracePeriodSeconds"] > grace_seconds(options)
    for probe in ("startupProbe", "livenessProbe"):
        assert str(options.health_file) in " ".join(container[probe]["exec"]["command"])


def test_the_limit_of_health_files_is_the_lease() -> None:
    """Everywhere: a file that is touched every third of a lease is never that old."""
    text = PAGE.read_text(encoding="utf-8")
    limits = re.findall(r"/health\) \)\) -lt (\d+)", text)
    assert len(limits) == 5
    assert {float(limit) for limit in limits} == {Settings().lease_seconds}


def alerts() -> list[dict[str, Any]]:
    text = (ROOT / "docs" / "howto" / "monitor.rst").read_text(encoding="utf-8")
    [block] = blocks(text, "yaml")
    [group] = yaml.safe_load(block.code)["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_is_about_metrics_that_there_are(rule: dict[str, Any]) -> None:
    """Under the names that the exporter of Prometheus makes of them."""
    gauges = {f"aksara_outbox_{name}" for name in opentelemetry._GAUGES}
    counters = {f"aksara_outbox_{name}_total" for name in (*COUNTED, "repeated")}
    named = set(re.findall(r"aksara_outbox_\w+", rule["expr"]))
    assert named
    assert named <= gauges | counters
