"""The README's tables and commands are those of the program."""

import textwrap
from pathlib import Path

import pytest

from facade.cli.config import load
from facade.cli.keys import KEYS, Key
from facade.cli.pulling import containerd_hosts, docker_daemon, podman_conf
from facade.cli.tables import Configuration, Listen
from facade.cli.wiring import upstreams
from facade.settings import Address

README = Path(__file__).parents[3] / "README.md"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.variable)
def test_every_setting_has_its_row(key: Key) -> None:
    row = next(line for line in README.read_text().splitlines() if f"| `{key.variable}` " in line)
    _, place, _, flag, default, _ = row.replace("\\|", "/").split("|")
    assert place.strip(" `") in (key.place, '[facade.upstreams."NAMESPACE"]', "[[facade.access]]")
    assert (f"`{key.flag}" in flag) if key.flag else not flag.strip()
    value = getattr(getattr(Configuration(), key.section), key.name)
    assert not isinstance(value, Listen) or default.strip() == f"`{value}`"


@pytest.mark.parametrize(
    "text",
    [
        docker_daemon(Address("127.0.0.1", 5053)),
        podman_conf(Address("127.0.0.1", 5050)),
        containerd_hosts(Address("127.0.0.1", 5050)),
    ],
)
def test_the_files_for_the_runtimes_are_the_ones_a_node_prints(text: str) -> None:
    unindented = "\n".join(line.removeprefix("      ") for line in README.read_text().splitlines())
    assert text.strip() in unindented


def test_the_example_of_a_file_is_understood(tmp_path: Path) -> None:
    text = README.read_text().partition("    # layermesh.toml\n")[2].partition("\n\nThe `config.json`")[0]
    file = tmp_path / "layermesh.toml"
    file.write_text(textwrap.dedent(text))
    (config,) = (each for each in upstreams(load({}, {}, file).facade.upstreams) if each.namespace == "corp.example")
    assert len(config.urls) == 2 and len(config.tags) == 4
