"""Tells of the trees in a directory: `listing.py TREES LISTINGS` writes a file for each, an object of JSON for each thing
in it."""
import hashlib
import json
import os
import stat
import sys

KINDS = {
    stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFIFO: "fifo",
    stat.S_IFREG: "file",
}


def printable(path):
    return path.decode("utf-8", "backslashreplace")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def xattrs(path):
    """Without those by which file systems and engines keep their own accounts."""
    names = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith(("trusted.overlay.", "user.overlay.", "security.selinux"))]
    return {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names}


def describe(path):
    found = os.lstat(path)
    kind = KINDS[stat.S_IFMT(found.st_mode)]
    told = {"kind": kind, "uid": found.st_uid, "gid": found.st_gid, "mtime": found.st_mtime_ns, "xattrs": xattrs(path)}
    if kind == "link":
        told["target"] = printable(os.readlink(path))
    else:
        told["mode"] = stat.S_IMODE(found.st_mode)
    if kind in ("char", "block"):
        told["device"] = [os.major(found.st_rdev), os.minor(found.st_rdev)]
    if kind == "file":
        told |= {"size": found.st_size, "sha256": digest(path)}
    return told, None if kind == "directory" else (found.st_dev, found.st_ino)


def tell(root, out):
    found, places = [], {}
    left = [root]
    while left:
        path = left.pop()
        told, inode = describe(path)
        told["path"] = printable(path[len(root):] or b"/")
        found.append((told, inode))
        if inode:
            places.setdefault(inode, []).append(told["path"])
        else:
            left += [os.path.join(path, name) for name in os.listdir(path)]
    for told, inode in sorted(found, key=lambda pair: pair[0]["path"]):
        if inode and len(places[inode]) > 1:
            told["links"] = sorted(places[inode])
        print(json.dumps(told, sort_keys=True), file=out)


def main(trees, listings):
    for name in os.listdir(trees):
        with open(os.path.join(listings, name), "w") as out:
            tell(os.fsencode(os.path.join(trees, name)), out)


main(*sys.argv[1:])
