"""From `systemctl start` to READY in a booted Debian 12: what `edgetool deploy` installs beside a plain venv, in turns.

The venv has the same packages as pip leaves them, with pip's byte code and without any. It is each form's second start
or a later one: the provider was chosen before. It takes root, debootstrap and systemd-nspawn, as `tests/booted` does.
Usage: python tools/benchmarks/service_start.py [--turns 9]
"""

from __future__ import annotations

import argparse
import compileall
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from booted.conftest import CONFIG, WORDS, write_bundle
from booted.machine import boot, debian, why_not

from edge_agent.service.program import copy_self
from edgetool.commands.deploy import deploy
from edgetool.deployment.packages import pins

FORMS = ("archive", "venv", "bare")
LAUNCHER = "#!/opt/{name}/bin/python3\nimport sys\n\nfrom edge_agent.cli import main\n\nsys.exit(main())\n"
STEPS = """
installing first > /dev/null; cp -a /lab/venv /lab/bare /opt/; ln -s edge-agent/current /opt/archive
folder=/run/systemd/system/edge-agent.service.d; mkdir -p $folder
start() {{
  systemctl stop edge-agent
  printf '[Service]\\nExecStart=\\nExecStart=/opt/%s/bin/edge-agent run --config /etc/edge-agent/agent.toml\\n' $1 \\
    > $folder/form.conf
  systemctl daemon-reload; local begin; begin=$(date +%s%N)
  systemctl start edge-agent; local end; end=$(date +%s%N)
  # What runs is that form, whatever its first line names.
  tr '\\0' '\\n' < /proc/$(state MainPID)/cmdline | head -1 | grep -q "^/opt/${{1/archive/edge-agent}}/" || return
  say $1_$2 $(((end - begin) / 1000))
}}
for form in {forms}; do start $form warm; done
for turn in $(seq {turns}); do
  set -- {forms}; for _ in $(seq $((turn % 3))); do set -- $2 $3 $1; done
  for form in "$@"; do start $form $turn; done
done
"""


def plain_venv(root: Path) -> int:
    """What `pip install` in a virtual environment leaves, for Debian's Python; gives its size with pip, in bytes."""
    subprocess.run([sys.executable, "-m", "venv", str(root)], check=True)
    pip = [str(root / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--require-hashes", "-r", str(pins("cpu"))], check=True)
    (packages,) = (root / "lib").glob("python*/site-packages")
    copy_self(packages)
    compileall.compile_dir(packages / "edge_agent", quiet=2)
    size = size_of(root)
    for link in (root / "bin").glob("python*"):
        link.unlink()
    (root / "bin" / "python3").symlink_to("/usr/bin/python3.11")
    (root / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n")
    return size


def write_command(root: Path) -> None:
    """As pip writes it, for the place that the venv will have."""
    command = root / "bin" / "edge-agent"
    command.write_text(LAUNCHER.format(name=root.name))
    command.chmod(0o755)


def size_of(folder: Path) -> int:
    """Bytes in a folder, as the machine counts them too."""
    return int(subprocess.run(["du", "-sb", folder], capture_output=True, text=True, check=True).stdout.split()[0])


def main() -> None:
    """Print medians and the medians of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    if sys.version_info[:2] != (3, 11):
        sys.exit("run it by Python 3.11, which is Debian 12's: the packages are for that")
    with tempfile.TemporaryDirectory() as name:
        lab = Path(name) / "lab"
        lab.mkdir()
        bundle = write_bundle(lab)
        (lab / "agent.toml").write_text(CONFIG)
        deployed = deploy([bundle], config=lab / "agent.toml", to=str(lab))
        deployed.archive.rename(lab / "first.tar.gz")
        plain = plain_venv(lab / "venv")
        shutil.copytree(lab / "venv", lab / "bare", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        for form in ("venv", "bare"):
            write_command(lab / form)
        steps = WORDS + STEPS.format(forms=" ".join(FORMS), turns=options.turns)
        steps += "say size $(du -sb /opt/archive/ | cut -f1)\n"
        said = boot(debian(), steps, lab, Path(name) / "machine")
    found = dict(re.findall(r"^@(\w+)=(\d+)$", said, re.MULTILINE))
    taken = {form: np.array([int(found[f"{form}_{turn + 1}"]) for turn in range(options.turns)]) for form in FORMS}
    for form, microseconds in taken.items():
        ratio = np.median(taken["archive"] / microseconds)
        print(
            f"{form:8} {np.median(microseconds) / 1e6:.2f} s from start to READY; the archive's takes {ratio:.2f} of it"
        )
    size = int(found["size"])
    print(f"installed, with byte code: {size / 1e6:.0f} MB, {size / plain:.2f} of a plain venv's {plain / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
