"""The layer rules of the OCI image-spec (layer.md), and nothing else: `model.py LISTINGS LAYOUT…` tells of the trees
that the images in OCI layouts have, in files with their numbers, an object of JSON for each thing in a tree.

It knows nothing of file systems: a tree is directories with names in them, and layers are read by Python's tarfile.
"""
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from decimal import Decimal

KINDS = {
    tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link", tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo", tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
}


class Node:
    def __init__(self, kind, **attributes):
        self.kind, self.attributes, self.children = kind, attributes, {}


class Tree:
    def __init__(self):
        self.root = Node("directory")

    def parent(self, path, make):
        """The directory that a path's last name is in, and that name. Links lead where they lead inside the tree."""
        names = split(path)
        if not names:
            return None, ""
        left, trail, links = names[:-1], [self.root], 0
        while left:
            name = left.pop(0)
            if name == "..":
                trail = trail[:-1] or [self.root]
                continue
            child = trail[-1].children.get(name)
            if child is None and make:
                # No sentence says what it is then: its attributes are not compared.
                child = trail[-1].children[name] = Node("directory")
            if child is None or child.kind not in ("directory", "link"):
                return None, ""
            if child.kind == "link":
                links += 1
                if links > 40:
                    return None, ""
                target = child.attributes["target"]
                trail = [self.root] if target.startswith("/") else trail
                left = split(target) + left
            else:
                trail.append(child)
        return trail[-1], names[-1]

    def hide(self, path):
        """A whiteout: it applies to lower layers only, so all of a layer's come before its other entries."""
        parent, name = self.parent(path, False)
        if parent is None:
            return
        if name == ".wh..wh..opq":
            parent.children.clear()
        elif not name.startswith(".wh..wh."):
            parent.children.pop(name[len(".wh."):], None)

    def apply(self, archive):
        entries = archive.getmembers()
        whiteouts = [entry for entry in entries if split(entry.name)[-1:] and split(entry.name)[-1].startswith(".wh.")]
        for entry in whiteouts:
            self.hide(entry.name)
        waiting = []
        for entry in entries:
            if entry not in whiteouts and not self.take(archive, entry):
                waiting.append(entry)
        while waiting:
            again = [entry for entry in waiting if not self.take(archive, entry)]
            assert len(again) < len(waiting), "a hard link leads to nothing"
            waiting = again

    def take(self, archive, entry):
        parent, name = self.parent(entry.name, True)
        if entry.type == tarfile.LNKTYPE:
            directory, target = self.parent(entry.linkname, False)
            node = directory and directory.children.get(target)
            if node is not None:
                parent.children[name] = node
            return node is not None
        kind = KINDS.get(entry.type)
        if kind is None:
            return True
        node = describe(archive, entry, kind)
        if parent is None:
            assert not split(entry.name), "a path leads through what is not a directory"
            self.root.attributes = node.attributes
            return True
        present = parent.children.get(name)
        if present is not None and present.kind == "directory" == kind:
            # "the existing path's attributes MUST be replaced by those of the entry in the changeset"
            present.attributes = node.attributes
        else:
            # "remove the file path" and "recreate the file path"
            parent.children[name] = node
        return True


def split(path):
    return [name for name in path.split("/") if name not in ("", ".")]


def describe(archive, entry, kind):
    time = entry.pax_headers.get("mtime", entry.mtime)
    attributes = {"uid": entry.uid, "gid": entry.gid, "mtime": int(Decimal(time) * 10**9)}
    if kind == "link":
        attributes["target"] = entry.linkname
    else:
        attributes["mode"] = entry.mode & 0o7777
    if kind in ("char", "block"):
        attributes["device"] = [entry.devmajor, entry.devminor]
    if kind == "file":
        content = archive.extractfile(entry).read()
        attributes |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    prefix = "SCHILY.xattr."
    xattrs = {key[len(prefix):]: value for key, value in entry.pax_headers.items() if key.startswith(prefix)}
    # overlayfs' own are not the image's; xattr(7) gives `user.` to files and directories only.
    xattrs = {key: value for key, value in xattrs.items() if not key.startswith("trusted.overlay.")}
    if kind not in ("file", "directory"):
        xattrs = {key: value for key, value in xattrs.items() if not key.startswith("user.")}
    attributes["xattrs"] = {key: os.fsencode(value).hex() for key, value in xattrs.items()}
    return Node(kind, **attributes)


def blob(layout, digest):
    with open(os.path.join(layout, "blobs", *digest.split(":")), "rb") as file:
        return file.read()


def unpacked(content):
    if content[:2] == b"\x1f\x8b":
        return gzip.decompress(content)
    if content[:4] == b"\x28\xb5\x2f\xfd":
        return subprocess.run(["zstd", "-dcq"], input=content, check=True, stdout=subprocess.PIPE).stdout
    return content


def tell(tree, out):
    """The same as listing.py tells of a directory."""
    found, places = [], {}
    left = [("", tree.root)]
    while left:
        path, node = left.pop()
        places.setdefault(id(node), []).append(path)
        found.append((path, node))
        left += [(path + "/" + name, child) for name, child in node.children.items()]
    for path, node in sorted(found, key=lambda pair: pair[0]):
        told = {"path": printable(path or "/"), "kind": node.kind} | node.attributes
        if "target" in told:
            told["target"] = printable(told["target"])
        if node.kind != "directory" and len(places[id(node)]) > 1:
            told["links"] = sorted(map(printable, places[id(node)]))
        print(json.dumps(told, sort_keys=True), file=out)


def printable(text):
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def tree_of(layout):
    with open(os.path.join(layout, "index.json")) as file:
        index = json.load(file)
    manifest = json.loads(blob(layout, index["manifests"][0]["digest"]))
    tree = Tree()
    for layer in manifest["layers"]:
        content = unpacked(blob(layout, layer["digest"]))
        # Some makers leave out what should fill the last block.
        content += bytes(-len(content) % 512)
        if content:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:", errors="surrogateescape") as archive:
                tree.apply(archive)
    return tree


def main(listings, *layouts):
    for number, layout in enumerate(layouts):
        with open(os.path.join(listings, str(number)), "w") as out:
            tell(tree_of(layout), out)


main(*sys.argv[1:])
