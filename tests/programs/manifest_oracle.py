"""Judges what `dragoman inject` does to the text of manifests, by readers of YAML that are not ours: PyYAML, and kubectl.

Usage: manifest_oracle.py DRAGOMAN KUBECTL FILE...

For each FILE, in the native and in the plain form: injected and read by PyYAML it is the original, once what is dragoman's
is taken out by its names; --uninject gives back every byte; and a file of one object that kubectl has written anew gives the
object back. Prints a JSON object: by FILE what is wrong, as lines of text.
"""

import json
import subprocess
import sys

import yaml

# A pod that kubelet never restarts is one that ends: without a command of its own the plain form refuses it.
FORMS = {"native": [], "plain": ["--native-sidecar=false"]}
REFUSED = 2
# What is added under a name of kubectl's, where the manifest does not say it itself.
ADDED = "kubectl.kubernetes.io/default-container"


def run(*command, text=b""):
    return subprocess.run(command, input=text, capture_output=True, check=False)


def is_ours(name):
    return isinstance(name, str) and (name in ("dragoman", ADDED) or name.startswith(("dragoman-", "dragoman.dev/")))


def without_ours(node):
    """The object without all that goes by a name of dragoman's; nothing is as good as an empty list."""
    if isinstance(node, list):
        return [without_ours(item) for item in unwrapped(node) if not (isinstance(item, dict) and is_ours(item.get("name")))]
    if isinstance(node, dict):
        entries = {key: without_ours(value) for key, value in node.items() if not is_ours(key)}
        return {key: value for key, value in entries.items() if value not in (None, [], {})}
    return node


def unwrapped(command):
    """A command without the one that waits for the proxy before it."""
    if command[:2] == ["/run/dragoman/dragoman", "wait"]:
        return command[command.index("--") + 1 :]
    return command


def read(text):
    text = text.decode("utf-8-sig")
    try:
        # JSON may have tabs, where PyYAML takes none.
        return [json.loads(text)]
    except json.JSONDecodeError:
        return list(yaml.safe_load_all(text))


def kubectl_yaml(kubectl, text):
    """As kubectl writes the object; None where it does not know the kind."""
    done = run(kubectl, "label", "--local", "-f", "-", "dragoman-test=yes", "-o", "yaml", text=text)
    return None if done.returncode else done.stdout


def faults(dragoman, kubectl, file, options):
    with open(file, "rb") as opened:
        original = opened.read()
    injected = run(dragoman, "inject", *options, text=original)
    if injected.returncode == REFUSED and options:
        return
    if injected.returncode:
        yield f"inject: {injected.stderr.decode()}"
        return
    if injected.stdout == original:
        yield "nothing was injected"
    back = run(dragoman, "inject", "--uninject", text=injected.stdout)
    if back.returncode or back.stdout != original:
        yield f"not every byte came back: {back.stderr.decode()}"
    before, after = read(original), read(injected.stdout)
    if without_ours(before) != without_ours(after):
        yield f"PyYAML reads {json.dumps(without_ours(after), default=str)}, not {json.dumps(without_ours(before), default=str)}"
    if len(before) == 1 and "items" not in before[0]:
        yield from round_trip(dragoman, kubectl, original, injected.stdout)


def round_trip(dragoman, kubectl, original, injected):
    expected, written = (kubectl_yaml(kubectl, text) for text in (original, injected))
    if expected is None and written is None:
        return
    if expected is None or written is None:
        yield "kubectl takes one of original and injected and not the other"
        return
    back = run(dragoman, "inject", "--uninject", text=written)
    if back.returncode:
        yield f"what kubectl wrote: {back.stderr.decode()}"
    elif read(back.stdout) != read(expected):
        yield f"from what kubectl wrote came {back.stdout.decode()}, not {expected.decode()}"


def main():
    dragoman, kubectl, *files = sys.argv[1:]
    verdicts = {}
    for file in files:
        lines = [f"{form}: {fault}" for form, options in FORMS.items() for fault in faults(dragoman, kubectl, file, options)]
        verdicts[file] = lines
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()
