"""Stands in for `docker` on PATH: keeps its state in the folder FAKE_DOCKER, notes every call there, and answers as docker does.

`state.json` has `config` (what the compose files say), `containers`, `images` (image → labels), `volumes`, `info`, `holders`
(what other projects' containers hold), `up` (a service → the state that it comes up in) and `fails` (the words of a command →
what it says before it ends with 1).
"""

import json
import os
import sys
from pathlib import Path

HOME = Path(os.environ["FAKE_DOCKER"])
STATE = HOME / "state.json"
# Which services stand in which file.
PARTS = {"compose/lineage.yaml": {"postgres", "marquez"}, "compose/mlflow.yaml": {"mlflow", "dynamodb"}}


def main(words: list[str]) -> int:
    with (HOME / "calls.ndjson").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    text = STATE.read_text()
    state = json.loads(text)
    bare = " ".join(bare_words(words))
    failing = next((said for command, said in state["fails"].items() if bare.startswith(command)), None)
    if failing is not None:
        sys.stderr.write(failing)
        return 1
    command = next((command for command in ANSWERS if bare.startswith(command)), None)
    if command is None:
        sys.stderr.write(f"fake docker knows no `{bare}`\n")
        return 64
    ANSWERS[command](state, words, bare.removeprefix(command).split())
    if json.dumps(state) != text:  # one that only looks must not undo what another does meanwhile
        new = STATE.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.replace(STATE)
    return 0


def bare_words(words: list[str]) -> list[str]:
    """The command without the options that have values before it."""
    skipped = {index + 1 for index, word in enumerate(words) if word in ("-f", "--env-file")}
    return [word for index, word in enumerate(words) if index not in skipped and word not in ("-f", "--env-file")]


def config(state: dict, words: list[str], rest: list[str]) -> None:
    files = [words[index + 1] for index, word in enumerate(words) if word == "-f"]
    elsewhere = set().union(*(names for file, names in PARTS.items() if file not in files))
    here = set().union(*(names for file, names in PARTS.items() if file in files))
    services = {
        name: service for name, service in state["config"]["services"].items() if (name not in elsewhere if "compose/obs.yaml" in files else name in here)
    }
    for service in services.values():
        if "build" in service:
            service["build"]["labels"] = {"goldtrace.sources": os.environ[service["build"]["sum"]]}
    print(json.dumps({**state["config"], "services": services}))


def ps(state: dict, words: list[str], rest: list[str]) -> None:
    for name, container in state["containers"].items():
        publishers = [{"TargetPort": port["target"], "PublishedPort": int(port["published"])} for port in state["config"]["services"][name].get("ports", [])]
        print(json.dumps({"Service": name, "Publishers": publishers if container["State"] == "running" else None, **container}))


def up(state: dict, words: list[str], rest: list[str]) -> None:
    state["started"] = state.get("started", 0)
    state["config_sums"] = {name: value for name, value in os.environ.items() if name.startswith("CONFIG_SUM_")}
    for name in rest[1:]:
        service = state["config"]["services"][name]
        if name not in state["containers"]:
            state["started"] += 1
            comes = {"State": "exited", "ExitCode": 0} if service.get("restart") == "no" else {"State": "running", "Health": "healthy"}
            state["containers"][name] = {"ID": f"id{state['started']}", **comes, **state["up"].get(name, {})}
    state["volumes"] = [volume["name"] for volume in state["config"]["volumes"].values()]


def down(state: dict, words: list[str], rest: list[str]) -> None:
    state["containers"] = {}
    if "--volumes" in rest:
        state["volumes"] = []


def remove(state: dict, words: list[str], rest: list[str]) -> None:
    for name in rest[2:]:
        del state["containers"][name]


def build(state: dict, words: list[str], rest: list[str]) -> None:
    service = state["config"]["services"][rest[-1]]
    state["images"][service["image"]] = os.environ[service["build"]["sum"]]


def inspect_images(state: dict, words: list[str], rest: list[str]) -> None:
    for name in rest[3:]:
        if name in state["images"]:
            print(f"{json.dumps([name])}\t{state['images'][name]}")


def stats(state: dict, words: list[str], rest: list[str]) -> None:
    for container in state["containers"].values():
        print(f"{container['ID']}00\t12.5MiB / 256MiB")


ANSWERS = {
    "info": lambda state, words, rest: print(json.dumps(state["info"])),
    "compose version": lambda state, words, rest: print(state["compose"]),
    "compose config": config,
    "compose ps": ps,
    "compose up": up,
    "compose down": down,
    "compose rm": remove,
    "compose build": build,
    "compose logs": lambda state, words, rest: print("first line\nlast line"),
    "ps": lambda state, words, rest: print("\n".join(state["holders"])),
    "image inspect": inspect_images,
    "pull": lambda state, words, rest: state["images"].update({rest[0]: ""}),
    "volume ls": lambda state, words, rest: print("\n".join(state["volumes"])),
    "stats": stats,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
