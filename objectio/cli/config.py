"""Commands about the configuration: check, show, schema, sample."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from objectio.cli.command import Command

if TYPE_CHECKING:
    from objectio.config import Config
    from objectio.plugin.loader import Plugins


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """`--config` and `--set`, for every command that reads the configuration."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration file (TOML)")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one key of it; may be repeated",
    )


def config_from(parsed_args: argparse.Namespace) -> Config:
    """What the arguments, the environment and the file say together."""
    from objectio.config import load_config

    return load_config(parsed_args.config, env=os.environ, overrides=parsed_args.overrides)


def plugins_for(config: Config) -> Plugins:
    """The kernel's own drivers and the plugins that the configuration does not disable."""
    from objectio import builtin
    from objectio.plugin.loader import load_plugins

    return load_plugins(disabled=config.node.disabled_plugins, builtin=(builtin,))


class _ConfigCommand(Command):
    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_config_arguments(parser)
        return parser


class ConfigCheck(_ConfigCommand):
    """Check the configuration, with the settings of every driver it names.

    Without --config this checks the defaults and what the environment overrides.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.config import check_drivers

        config = config_from(parsed_args)
        check_drivers(config, plugins_for(config).registry)
        self.app.stdout.write(f"{config.origin}: nothing wrong\n")


class ConfigShow(_ConfigCommand):
    """Print the configuration in force: the file, the environment and flags taken together.

    What is secret is shown as "…", unless it is asked for.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--show-secrets", action="store_true", help="print a file that can be used as it is"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.config import dump_toml
        from objectio.config.shown import without_secrets

        config = config_from(parsed_args)
        if not parsed_args.show_secrets:
            config = without_secrets(config, plugins_for(config).registry)
        self.app.stdout.write(dump_toml(config))


class ConfigSchema(_ConfigCommand):
    """Print the JSON schema of the configuration file, with the installed drivers' settings."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.config.jsonschema import json_schema

        drivers = plugins_for(config_from(parsed_args)).registry.drivers()
        self.app.stdout.write(json.dumps(json_schema(drivers), indent=2) + "\n")


class ConfigSample(_ConfigCommand):
    """Print a configuration file with every key, its default and what it means."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.config.write import sample_toml

        drivers = plugins_for(config_from(parsed_args)).registry.drivers()
        self.app.stdout.write(sample_toml(drivers))
