"""`objectio complete`: what makes bash complete our commands, their options, and the choices of these.

Cliff's own needs the package bash-completion, and knows neither `-e URL` in front of a command nor a
command that is also the first word of others.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from objectio.cli.command import Command
from objectio.errors import ObjectIOError

# Words are cut out of the line here: readline cuts at colons too, and with that URLs into pieces. What
# completes the last piece of a word must not repeat those before it.
_HEAD: Final = r"""# Completion of objectio for bash: eval "$(objectio complete)"
_objectio()
{
  local line=${COMP_LINE:0:COMP_POINT} path=objectio word cur="" skip="" argument="" i
  local -a words
  read -ra words <<< "$line"
  if [[ $line != *[[:space:]] ]]; then
    cur=${words[-1]}
    unset 'words[-1]'
  fi
  local -A commands=() options=() values=() choices=()
"""
_TAIL: Final = r"""  COMPREPLY=()
  case ${words[0]##*/} in
    objectio-meta|objectio-osd|objectio-gateway) path="objectio ${words[0]##*objectio-}" ;;
  esac
  for ((i = 1; i < ${#words[@]}; i++)); do
    word=${words[i]}
    if [[ -n $skip ]]; then
      skip=""
    elif [[ $word == -* ]]; then
      [[ " ${values[$path]} " == *" $word "* ]] && skip=1
    elif [[ $path == objectio && $word == help ]]; then
      :
    elif [[ -n ${commands["$path $word"]+x}${options["$path $word"]+x} ]]; then
      path+=" $word"
    else
      argument=1
    fi
  done
  if [[ -n $skip ]]; then
    COMPREPLY=($(compgen -W "${choices["$path ${words[-1]}"]}" -- "$cur"))
  elif [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "${options[$path]}" -- "$cur"))
  elif [[ -n ${commands[$path]} && -z $argument ]]; then
    COMPREPLY=($(compgen -W "${commands[$path]}" -- "$cur"))
    compopt +o default 2> /dev/null
  fi
  if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
    for ((i = 0; i < ${#COMPREPLY[@]}; i++)); do
      COMPREPLY[i]=${COMPREPLY[i]#"${cur%"${cur##*:}"}"}
    done
  fi
}
complete -o default -F _objectio objectio objectio-cli objectio-meta objectio-osd objectio-gateway
"""


PROGRAM: Final = "objectio"


class Complete(Command):
    """Print what makes bash complete commands, options and their choices.

    For this shell: eval "$(objectio complete)". For all that are opened from now on, where the package
    bash-completion is installed: objectio complete >
    ~/.local/share/bash-completion/completions/objectio
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        found: dict[str, argparse.ArgumentParser] = {PROGRAM: self.app.parser}
        for name in sorted(self.app.command_manager.commands):
            try:
                factory, *_ = self.app.command_manager.find_command(name.split())
            except ObjectIOError as error:  # of a plugin that is broken: the others still serve
                self.app.stderr.write(f"objectio: {error}\n")
                continue
            command = factory(self.app, self.app_args, cmd_name=name)
            found[f"{PROGRAM} {name}"] = command.get_parser(name)
        self.app.stdout.write(script(found))


class _Words(NamedTuple):
    """Options of a command, those that take a value, and what some of these may be."""

    options: list[str]
    values: list[str]
    choices: dict[str, list[str]]


def script(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """Of all commands, by the words that they are called by; one word is the program itself."""
    lines = []
    following: dict[str, set[str]] = {}
    for name, parser in parsers.items():
        words = _words_of(parser)
        if name == PROGRAM:
            words = words._replace(
                options=[*words.options, "-e", "--endpoint"],
                values=[*words.values, "-e", "--endpoint"],
            )
        lines.append(_assign("options", name, words.options))
        lines.append(_assign("values", name, words.values))
        lines += [_assign("choices", f"{name} {each}", may) for each, may in words.choices.items()]
        parts = name.split()
        for count in range(1, len(parts)):
            following.setdefault(" ".join(parts[:count]), set()).add(parts[count])
    lines += [_assign("commands", name, sorted(words)) for name, words in following.items()]
    return _HEAD + "".join(lines) + _TAIL


def _words_of(parser: argparse.ArgumentParser) -> _Words:
    found = _Words([], [], {})
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        found.options.extend(action.option_strings)
        if action.nargs != 0:
            found.values.extend(action.option_strings)
            for option in action.option_strings if action.choices else ():
                found.choices[option] = [str(each) for each in action.choices or ()]
    return found


def _assign(array: str, key: str, words: Iterable[str]) -> str:
    return f"  {array}[{shlex.quote(key)}]={shlex.quote(' '.join(words))}\n"
