"""Bring what is pinned to the newest versions that fit.

Packages: what the bounds in requirements.txt and both pyproject.toml allow. Images: the newest tag that
differs in its last number only, as another Airflow, MLflow or Postgres takes more than a new tag; a digest
follows its tag.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import requests
from rich.console import Console
from rich.table import Table

from local_stack.settings import ROOT

CONSTRAINTS = ROOT / "constraints.txt"
IMAGE_FILES = ("Dockerfile", "docker-compose.override.yml", "docker-compose.celery.yml", "deploy/Dockerfile")
IMAGE = re.compile(r"(?<=FROM |age: )([\w.:-]+)/([\w./-]+):([\w.-]+)(@sha256:[0-9a-f]{64})?(?=\s|$)")
# Indexes of images for several platforms, and images for one: the digest of a tag is of whichever it is.
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
    )
)
SECONDS = 20
PROOF = "make check test lifecycle-test docker-test celery-test matrix package"

Changes = list[tuple[str, str, str]]  # what, its old version, its new one


def pins(constraints: str) -> dict[str, str]:
    """Return the versions of each package; there may be several, for different Pythons."""
    found: dict[str, str] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.!+-]+)", constraints, re.MULTILINE):
        found[name] = f"{found[name]}, {version}" if name in found else version
    return found


def differences(old: dict[str, str], new: dict[str, str]) -> Changes:
    """Return what is not the same in both; what is not there has the version ``-``."""
    names = sorted(old.keys() | new.keys())
    return [
        (name, old.get(name, "-"), new.get(name, "-")) for name in names if old.get(name) != new.get(name)
    ]


def newest(tag: str, tags: Iterable[str]) -> str:
    """Return the newest of the tags that differ from this one in the last number only."""
    *_, last = re.finditer(r"\d+", tag)
    alike = re.compile(re.escape(tag[: last.start()]) + r"(\d+)" + re.escape(tag[last.end() :]))
    numbers = {int(found[1]): other for other in [*tags, tag] if (found := alike.fullmatch(other))}
    return numbers[max(numbers)]


class Registry:
    """A registry of images, asked without a login.

    :param host: e.g. ``ghcr.io``; as Docker does, http is spoken to one on this machine.

    .. seealso:: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
    """

    def __init__(self, host: str) -> None:
        scheme = "http" if host.startswith(("localhost", "127.")) else "https"
        self.url = f"{scheme}://{'registry-1.docker.io' if host == 'docker.io' else host}"
        self.session = requests.Session()
        self.session.headers["Accept"] = MANIFESTS

    def tags(self, image: str) -> Iterator[str]:
        """Return all tags of an image, which come in pages.

        :raises requests.RequestException: the registry does not answer, or refuses.
        """
        page: str | None = f"{self.url}/v2/{image}/tags/list?n=1000"
        while page:
            response = self._get(page)
            yield from response.json()["tags"]
            following = response.links.get("next")
            page = requests.compat.urljoin(page, following["url"]) if following else None

    def digest(self, image: str, tag: str) -> str:
        """Return ``sha256:...``, by which this image is the same for good.

        :raises requests.RequestException: the registry does not answer, or refuses.
        """
        return self._get(f"{self.url}/v2/{image}/manifests/{tag}").headers["Docker-Content-Digest"]

    def _get(self, url: str) -> requests.Response:
        response = self.session.get(url, timeout=SECONDS)
        if response.status_code == requests.codes.unauthorized:  # it says where a token for anybody is
            challenge = dict(re.findall(r'(\w+)="([^"]*)"', response.headers["WWW-Authenticate"]))
            answer = self.session.get(challenge.pop("realm"), params=challenge, timeout=SECONDS).json()
            token = answer.get("token") or answer["access_token"]
            response = self.session.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=SECONDS)
        response.raise_for_status()
        return response


@cache
def newest_image(host: str, image: str, tag: str, pinned: str) -> str:
    """Return the newest tag of an image, and its digest if the old one was pinned by that.

    :param pinned: ``@`` and the digest, or nothing.
    :raises requests.RequestException: the registry does not answer, or refuses.
    """
    registry = Registry(host)
    path = f"library/{image}" if host == "docker.io" and "/" not in image else image
    found = newest(tag, registry.tags(path))
    return f"{found}@{registry.digest(path, found)}" if pinned else found


def bump_images(file: Path) -> tuple[Changes, list[str]]:
    """Rewrite the images that a file names; return what changed, and the images that no registry told of."""
    changes, silent = [], []

    def replace(found: re.Match[str]) -> str:
        host, image, tag, pinned = found.groups(default="")
        name = f"{host}/{image}"
        try:
            version = newest_image(host, image, tag, pinned)
        except requests.RequestException:
            silent.append(f"{name}:{tag}")
            return found[0]
        if version != tag + pinned:
            changes.append((name, tag + pinned, version))
        return f"{name}:{version}"

    file.write_text(IMAGE.sub(replace, file.read_text()))
    return changes, silent


def bump_packages() -> Changes:
    """Pin every package anew, and return what changed."""
    before = pins(CONSTRAINTS.read_text())
    subprocess.run(["make", "--no-print-directory", "lock"], cwd=ROOT, check=True)
    return differences(before, pins(CONSTRAINTS.read_text()))


def main() -> None:
    """Bump all there is, show what changed, and say what proves it."""
    console = Console(highlight=False, soft_wrap=True)
    with console.status("Asking the package index and the registries"):
        changes, silent = bump_packages(), []
        for name in IMAGE_FILES:
            changed, unanswered = bump_images(ROOT / name)
            changes += changed
            silent += unanswered
    if changes:
        table = Table("what", "old", "new", box=None)
        for change in changes:
            table.add_row(*change)
        console.print(table)
    else:
        console.print("Nothing newer fits.")
    for image in silent:
        console.print(f"{image} stays: its registry did not answer.", style="yellow")
    if changes:
        console.print(f"\nThis is not tested yet. What proves it: {PROOF}")


if __name__ == "__main__":
    main()
