"""What the tests/check-* scripts share: the project's files, and how a complaint is printed."""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SKIPPED_FOLDERS = {".git", "__pycache__"}


def project_files():
    """Paths from the root of all files that belong to the project, sorted: what git tracks, or
    everything but build folders where there is no git (an unpacked archive)."""
    if os.path.exists(os.path.join(ROOT, ".git")):
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True,
                                text=True)
        if listed.returncode == 0:
            names = listed.stdout.split("\0")
            return sorted(n for n in names if n and os.path.isfile(os.path.join(ROOT, n)))
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS and not f.startswith("build")]
        found += [os.path.relpath(os.path.join(folder, f), ROOT) for f in files]
    return sorted(found)


def c_files(*suffixes):
    return [f for f in project_files() if f.endswith(suffixes or (".c", ".h", ".S"))]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+([<"])([^">]+)[">]', re.M)


def includes(path):
    """(line, name, is_system) of each #include, in order."""
    text = read(path)
    return [(text.count("\n", 0, m.start()) + 1, m[2], m[1] == "<") for m in INCLUDE.finditer(text)]


class Report:
    """Collects complaints, "file:line: what"; done() prints them and ends the script."""

    def __init__(self):
        self.lines = []

    def add(self, path, line, what):
        self.lines.append(f"{path}:{line}: {what}" if line else f"{path}: {what}")

    def done(self):
        for line in self.lines:
            print(line)
        sys.exit(1 if self.lines else 0)
