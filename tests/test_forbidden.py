"""Nothing in the tree runs foreign code or reaches the network; the net that says so catches."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "forbidden.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("forbidden", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["forbidden"] = module
    spec.loader.exec_module(module)
    return module


forbidden = loaded()


def names(source: str, path: str = "ternvae/some.py") -> set[str]:
    return {each.name for each in forbidden.findings(path, source)}


def test_the_tree_is_clean() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_part_of_the_tree_is_read() -> None:
    read = {path.relative_to(ROOT).as_posix() for path in forbidden.sources()}
    assert {"setup.py", ".ci/forbidden.py", "ternvae/__main__.py", "benchmarks/sweep.py"} <= read
    assert {"examples/train.py", "tests/test_forbidden.py", "ternvae/config/reading.py"} <= read


def test_linting_runs_it() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert ".ci/forbidden.py" in recipe
    assert "make lint" in (ROOT / ".ci" / "run").read_text()


BANNED = {
    # pickles
    "import pickle": "pickle",
    "import cPickle": "cPickle",
    "import _pickle as p": "_pickle",
    "import dill": "dill",
    "import cloudpickle": "cloudpickle",
    "import joblib": "joblib",
    "import marshal": "marshal",
    "import shelve": "shelve",
    "from pickle import loads": "pickle",
    "def f():\n    import pickle": "pickle",
    "import importlib\nimportlib.import_module('pickle')": "pickle",
    "p = __import__('pickle')": "pickle",
    "import sys\nsys.modules['pickle'].loads(x)": "pickle",
    "import pandas\npandas.read_pickle(x)": "pandas.read_pickle",
    "class A:\n    def __reduce__(self): ...": "__reduce__",
    # torch
    "import torch\ntorch.load(f)": "torch.load",
    "import torch\ntorch.load(f)  # noqa": "torch.load",
    "import torch\ntorch.load(f, weights_only=False)": "torch.load",
    "import torch\ntorch.load(f, weights_only=flag)": "torch.load",
    "import torch\ntorch.load(f, weights_only=1)": "torch.load",
    "import torch\ntorch.load(f, **keywords)": "torch.load",
    "import torch as t\nt.load(f)": "torch.load",
    "import torch\nt = torch\nt.load(f)": "torch.load",
    "import torch\nt = torch\nu = t\nu.load(f)": "torch.load",
    "import torch\nload = torch.load\nload(f, weights_only=True)": "torch.load",
    "import torch.nn\ntorch.load(f)": "torch.load",
    "from torch import load": "torch.load",
    "from torch import load as read\nread(f)": "torch.load",
    "import torch\ngetattr(torch, 'load')(f)": "torch.load",
    "import torch\nvars(torch)['load'](f)": "torch.load",
    "import torch\ntorch.__dict__['load'](f)": "torch.load",
    "import torch\nmap(torch.load, files)": "torch.load",
    "import torch\ntorch.serialization.load(f)": "torch.load",
    "import importlib\nimportlib.import_module('torch').load(f)": "torch.load",
    "from torch import *": "torch.*",
    "import torch\ntorch.hub.load('a', 'b')": "torch.hub",
    "import torch.hub": "torch.hub",
    "from torch import hub": "torch.hub",
    "import torch\ntorch.jit.load(f)": "torch.jit.load",
    "from torch.package import PackageImporter": "torch.package.PackageImporter",
    "import torch\ntorch.serialization.add_safe_globals([A])": (
        "torch.serialization.add_safe_globals"
    ),
    # numpy
    "import numpy as np\nnp.load(f, allow_pickle=True)": "numpy.load",
    "import numpy as np\nnp.load(f, allow_pickle=flag)": "numpy.load",
    "import numpy as np\nnp.load(f, None, True)": "numpy.load",
    "import numpy as np\nnp.load(f, **keywords)": "numpy.load",
    "import numpy as np\nmap(np.load, files)": "numpy.load",
    "from numpy import load\nload(f, allow_pickle=True)": "numpy.load",
    # YAML
    "import yaml\nyaml.load(t)": "yaml.load",
    "import yaml\nyaml.load(t, Loader=yaml.SafeLoader)": "yaml.load",
    "import yaml\nyaml.load_all(t)": "yaml.load_all",
    "import yaml\nyaml.unsafe_load(t)": "yaml.unsafe_load",
    "import yaml\nyaml.full_load(t)": "yaml.full_load",
    "import yaml\nclass L(yaml.Loader): ...": "yaml.Loader",
    "import yaml\nclass L(yaml.UnsafeLoader): ...": "yaml.UnsafeLoader",
    "import yaml\nclass L(yaml.FullLoader): ...": "yaml.FullLoader",
    "from yaml import CLoader": "yaml.CLoader",
    "from yaml.loader import FullLoader": "yaml.FullLoader",
    # text that becomes code
    "eval(t)": "eval",
    "exec(t)": "exec",
    "compile(t, '', 'exec')": "compile",
    "f = eval": "eval",
    "import builtins\nbuiltins.eval(t)": "eval",
    "import builtins as b\nb.exec(t)": "exec",
    "from builtins import eval as e\ne(t)": "eval",
    "import builtins\ngetattr(builtins, 'eval')(t)": "eval",
    "__builtins__['eval'](t)": "eval",
    "__builtins__.eval(t)": "eval",
    "__import__(name)": "__import__",
    "import importlib\nimportlib.import_module(name)": "importlib.import_module",
    "from importlib import import_module\nimport_module(name)": "importlib.import_module",
    # other programs
    "import os\nos.system(t)": "os.system",
    "import os\nos.popen(t)": "os.popen",
    "from os import system": "os.system",
    "import os\nos.execv(a, b)": "os.execv",
    "import os as o\ngetattr(o, 'system')(t)": "os.system",
    "import subprocess": "subprocess",
    "import subprocess\nsubprocess.run(a, shell=True)": "subprocess.run",
    "import subprocess\nsubprocess.Popen(a, shell=flag)": "subprocess.Popen",
    "from subprocess import run\nrun(a, **keywords)": "subprocess.run",
    "import subprocess\nsubprocess.getoutput(t)": "subprocess.getoutput",
    # the network
    **{
        f"import {module}": module.partition(".")[0]
        for module in (
            *("socket", "ssl", "urllib.request", "http.client", "requests", "httpx", "aiohttp"),
            *("ftplib", "smtplib", "xmlrpc.client", "telnetlib", "huggingface_hub", "webbrowser"),
        )
    },
    "from urllib.request import urlopen": "urllib",
}


@pytest.mark.parametrize("source", BANNED)
def test_every_ban_catches(source: str) -> None:
    assert BANNED[source] in names(source)


HARMLESS = [
    "model.eval()",
    "self.model.eval().exec()",
    "import torch\ntorch.compile(f)",
    "from torch import compile\ncompile(f)",
    "import re\nre.compile(t)",
    "import torch\ntorch.load(f, map_location='cpu', weights_only=True)",
    "import torch\ngetattr(torch, 'load')(f, weights_only=True)",
    "import torch\nmodel.load_state_dict(x)\ntorch.save(x, f)",
    "import json\njson.load(f), json.loads(t)",
    "import numpy as np\nnp.load(f), np.load(f, allow_pickle=False)",
    "import yaml\nyaml.safe_load(t), yaml.dump(x)\nclass L(yaml.SafeLoader): ...",
    "import os\nos.path.join(a), os.replace(a, b), os.fsync(1)",
    "import importlib\nimportlib.import_module('ternvae.models')",
    "import importlib.resources",
    "load = self.load\nload(f)",
    "pickle = 3\npickle + 1",
    "def f(http, socket): return http.client + socket.name",
    "'import pickle; eval(x)'  # os.system",
    "def evaluate(): ...\nevaluate()",
    "from ternvae.checkpoint import load_checkpoint\nload_checkpoint(f)",
    "from http_status import OK",
]


@pytest.mark.parametrize("source", HARMLESS)
def test_what_only_looks_alike_is_fine(source: str) -> None:
    assert names(source) == set()


IN_TESTS = "tests/test_some.py"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle\npickle.dumps(x), pickle.dump(x, f)", set()),
        ("import pickle\npickle.loads(pickle.dumps(x))", set()),
        ("class A:\n    def __reduce__(self): ...", set()),
        ("import socket, subprocess\nsubprocess.run([a], **keywords)", set()),
        ("import pickle\npickle.loads(x)", {"pickle.loads"}),
        ("import pickle\npickle.loads(pickle.dumps(x) + y)", {"pickle.loads"}),
        ("import pickle\npickle.load(f)", {"pickle.load"}),
        ("from pickle import load", {"pickle.load"}),
        ("import pickle\nclass U(pickle.Unpickler): ...", {"pickle.Unpickler"}),
        ("import pickle\nf = pickle.loads", {"pickle.loads"}),
        ("import torch\ntorch.load(f)", {"torch.load"}),
        ("import subprocess\nsubprocess.run(a, shell=True)", {"subprocess.run"}),
        ("eval(t)", {"eval"}),
    ],
)
def test_tests_may_make_pickles_and_not_read_them(source: str, found: set[str]) -> None:
    assert names(source, IN_TESTS) == found


def test_benchmarks_may_start_programs_and_only_torture_makes_pickles() -> None:
    start = "import subprocess\nsubprocess.run([a], check=True)"
    assert names(start, "benchmarks/sweep.py") == set()
    assert names("import pickle", "benchmarks/sweep.py") == {"pickle"}
    assert names("import pickle\npickle.dumps(x)", "benchmarks/trials/evil.py") == set()
    assert names("import pickle\npickle.loads(x)", "benchmarks/trials/evil.py") == {"pickle.loads"}


def test_a_complaint_names_the_line_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forbidden, "ALLOWED", {})
    lines = forbidden.complaints({"ternvae/a.py": "import yaml\n\nyaml.load(t)\n"})
    assert lines == ["ternvae/a.py:3: yaml.load: makes objects from tags; use yaml.safe_load"]


def test_allowances_are_counted_and_must_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forbidden, "ALLOWED", {("tests/a.py", "eval"): (1, "reason")})
    assert forbidden.complaints({"tests/a.py": "eval(t)"}) == []
    assert len(forbidden.complaints({"tests/a.py": "eval(t)\n\neval(u)"})) == 2
    assert "mend ALLOWED" in forbidden.complaints({"tests/a.py": ""})[0]
    assert "not there" in forbidden.complaints({})[0]


# --- while it runs --------------------------------------------------------------------------

#: Refuses and reports what Python announces before it happens, then runs the command line.  Torch
#: comes first: made for CUDA, it asks the system's loader where libraries are, by a program;
#: and so does matplotlib, when it lists the fonts for the first time.
WATCHED = """
import os, sys
import torch
import matplotlib.font_manager

FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork",
             "os.spawn", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.",
             "pickle.find_class", "marshal.load", "pty.")

def watch(event, arguments):
    # Importing reads compiled modules by marshal; that is no input of ours.
    if event.startswith(FORBIDDEN) and event != "marshal.loads":
        os.write(2, f"refused: {event} {arguments!r}\\n".encode())
        raise RuntimeError(event)

sys.addaudithook(watch)
from ternvae.cli import main
"""

SMALL = ["--space.n_digits", "3", "--training.batch_size", "27", "--training.epochs", "2"]


def watched(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WATCHED + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_training_and_loading_reach_no_network_and_start_no_program(tmp_path: Path) -> None:
    done = watched(
        f"small = {SMALL!r}\n"
        "last = 'run/checkpoints/last.pt'\n"
        "statuses = [\n"
        "    main(['train', *small, '--device', 'cpu', '--run-dir', 'run']),\n"
        "    main(['train', '--checkpoint', last, '--training.epochs', '3']),\n"
        "    main(['analyze', 'run/checkpoints/best_Q.pt', '--device', 'cpu']),\n"
        "]\n"
        "from ternvae.models import TernaryVAE\n"
        "TernaryVAE.from_checkpoint(last)\n"
        "sys.exit(max(statuses))\n",
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import socket; socket.socket().bind(('127.0.0.1', 0))",
        "import os; os.system('true')",
        "import subprocess; subprocess.run(['true'])",
        "import pickle, os; pickle.loads(pickle.dumps(os.mkdir))",
    ],
)
def test_the_watch_catches(code: str, tmp_path: Path) -> None:
    done = watched(code, tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("refused: ")
