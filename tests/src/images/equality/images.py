"""Makes images by hand, one for each oddity that a layer may have: `images.py DIRECTORY FILES [ARCHIVES]`.

Each becomes an OCI layout in DIRECTORY, of which images.json tells. FILES is how many the image of many files has. With
ARCHIVES there are no images, but their smaller layers as archives in that directory.
"""
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

TIME = 1_500_000_000
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ACL = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000600ffffffff20000400ffffffff")
TYPES = {"file": b"0", "hard": b"1", "link": b"2", "char": b"3", "block": b"4", "directory": b"5", "fifo": b"6", "more": b"7"}


class Layer:
    """One tar archive."""

    def __init__(self, form=tarfile.PAX_FORMAT, root=True):
        self.form, self.bytes = form, bytearray()
        if root:
            self.directory(".", 0o755)

    def add(self, kind, name, content=b"", mode=0o644, time=TIME, owner=(0, 0), link="", pax=None, device=(0, 0), size=None):
        info = tarfile.TarInfo(os.fsdecode(name))
        info.type, info.mode, info.mtime, info.linkname = TYPES.get(kind, kind), mode, time, os.fsdecode(link)
        info.size, (info.uid, info.gid), (info.devmajor, info.devminor) = len(content) if size is None else size, owner, device
        info.pax_headers = {key: os.fsdecode(value) for key, value in (pax or {}).items()}
        self.bytes += info.tobuf(self.form, "utf-8", "surrogateescape")
        self.bytes += content + bytes(-len(content) % 512)
        return self

    def file(self, name, content="content", **more):
        return self.add("file", name, content.encode() if isinstance(content, str) else content, **more)

    def directory(self, name, mode=0o755, **more):
        return self.add("directory", name, mode=mode, **more)

    def link(self, name, target, **more):
        return self.add("link", name, link=target, mode=0o777, **more)

    def hard(self, name, target):
        return self.add("hard", name, link=target)

    def xattr(self, **named):
        return {"SCHILY.xattr." + name.replace("_", ".", 1): value for name, value in named.items()}

    def raw(self, header, content=b""):
        header = bytearray(header)
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        self.bytes += header + content + bytes(-len(content) % 512)
        return self

    def tar(self, *words):
        """What GNU tar itself writes of the directory that the test has made."""
        self.bytes += subprocess.run(["tar", "-cf", "-", *words], check=True, stdout=subprocess.PIPE).stdout
        return self

    def end(self):
        return bytes(self.bytes) + bytes(1024)


def header(name, content, kind=b"0", magic=b"ustar  \0", mode=0o644):
    """A header written out, where Python's own would not have it."""
    block = bytearray(512)
    block[0:len(name)] = name
    block[100:136] = b"%07o\0%07o\0%07o\0%011o\0" % (mode, 0, 0, len(content))
    block[136:148] = b"%011o\0" % TIME
    block[156:157] = kind
    block[257:257 + len(magic)] = magic
    return block


def sparse_old(pieces, size):
    content = b"".join(bytes([65 + number % 26]) * length for number, (_, length) in enumerate(pieces))
    block = header(b"sparse", content, b"S")
    entry = lambda piece: b"%011o\0%011o\0" % piece
    block[386:386 + 24 * len(pieces[:4])] = b"".join(map(entry, pieces[:4]))
    block[482] = len(pieces) > 4
    block[483:495] = b"%011o\0" % size
    behind, rest = b"", pieces[4:]
    while rest:
        more = b"".join(map(entry, rest[:21])).ljust(504, b"\0")
        rest = rest[21:]
        behind += more + bytes([bool(rest)]) + bytes(7)
    layer = Layer().raw(block)
    layer.bytes += behind + content + bytes(-len(content) % 512)
    return layer


def sparse_0_0():
    records = [("size", 20000), ("numblocks", 2), ("offset", 4096), ("numbytes", 5), ("offset", 12288), ("numbytes", 3)]
    text = b""
    for key, value in records:
        rest = f" GNU.sparse.{key}={value}\n"
        length = len(rest) + 2
        text += f"{length}{rest}".encode()
    return Layer().raw(header(b"pax", text, b"x", b"ustar\x0000"), text).raw(header(b"sparse", b"12345678", magic=b"ustar\x0000"), b"12345678")


def negative(seconds):
    block = header(b"old", b"x")
    block[136:148] = (seconds + (1 << 96)).to_bytes(12, "big")
    return block


def usr():
    layer = Layer().directory("usr", 0o751, time=TIME - 9).directory("usr/lib", 0o711, time=TIME - 8).directory("usr/bin")
    layer.file("usr/lib/old", "old").file("usr/lib/kept", "kept").link("lib", "usr/lib").link("bin", "/usr/../usr/bin")
    return layer


def sparse_by_tar(room, version):
    path = os.path.join(room, "sparse-source")
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "sparse"), "wb") as file:
        for number in range(8):
            file.seek(number * 65536)
            file.write(b"%d" % number * 4096)
        file.truncate(1 << 20)
    return Layer(root=False).tar("--sparse", *version, "-C", path, ".")


def images(room, many):
    v7, gnu, ustar = b"", tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT
    long = "/".join(["long-" * 8 + str(number) for number in range(20)])
    rich = {"SCHILY.xattr.user.one": "1", "SCHILY.xattr.user.two": b"a\nb\0\xff=", "SCHILY.xattr.trusted.three": "3"}
    capable = {"SCHILY.xattr.security.capability": CAPABILITY}
    base = lambda: Layer().directory("a", 0o750, time=TIME - 5, owner=(7, 8)).file("a/one", "1").directory("a/sub", 0o700).file("a/sub/two", "2").file("b", "b")
    yield "plain", [base()]
    yield "whiteout of a file", [base(), Layer().file("a/.wh.one", "")]
    yield "whiteout of a directory", [base(), Layer().file(".wh.a", "")]
    yield "whiteout of what is not there", [base(), Layer().file("a/.wh.never", "")]
    yield "whiteout in the lowest layer", [base().file(".wh.ghost", "").file("a/.wh..wh..opq", "")]
    yield "whiteout and a new file of the name", [base(), Layer().file("a/one", "new").file("a/.wh.one", "")]
    yield "whiteout and a new directory of the name", [base(), Layer().file(".wh.a", "").directory("a", 0o711).file("a/new", "n")]
    yield "whiteout behind a new directory of the name", [base(), Layer().directory("a", 0o711).file("a/new", "n").file(".wh.a", "")]
    yield "whiteout with a directory's content but no directory", [base(), Layer().file(".wh.a", "").file("a/new", "n")]
    yield "opaque directory", [base(), Layer().directory("a", 0o755).file("a/.wh..wh..opq", "").file("a/new", "n")]
    yield "opaque mark behind the directory's content", [base(), Layer().directory("a").file("a/new", "n").file("a/.wh..wh..opq", "")]
    yield "opaque mark without its directory", [base(), Layer().file("a/.wh..wh..opq", "")]
    yield "opaque root", [base(), Layer().file(".wh..wh..opq", "").file("only", "this")]
    yield "whiteout undone by a third layer", [base(), Layer().file(".wh.a", ""), Layer().directory("a").file("a/three", "3")]
    yield "aufs' own files", [base(), Layer().file(".wh..wh.aufs", "").directory(".wh..wh.plnk", 0o700)]
    yield "file in place of a directory", [base(), Layer().file("a", "now a file")]
    yield "directory in place of a file", [base(), Layer().directory("b").file("b/c", "c")]
    yield "link in place of a directory", [base(), Layer().link("a", "b")]
    yield "directory in place of a link", [usr(), Layer().directory("lib", 0o700).file("lib/new", "n")]
    yield "directory again with other attributes", [base(), Layer().directory("a", 0o2711, time=TIME + 1, owner=(9, 9))]
    yield "directory, file, and directory again in three layers", [base(), Layer().file("a", "f"), Layer().directory("a").file("a/new", "n")]
    yield "hard links", [base().hard("c", "b").hard("a/d", "./b").file("e", "e").hard("a/sub/f", "/e")]
    yield "hard link to a link", [base().link("l", "b").hard("m", "l")]
    yield "hard link before its target", [Layer().hard("z", "y").hard("y", "x").file("x", "x")]
    yield "hard link to itself", [Layer().file("x", "x").hard("x", "x")]
    yield "hard link into a lower layer", [base(), Layer().hard("twin", "a/one")]
    out = "/dev/shm/iguana-untar"
    tricks = Layer().link("out", "../../..").file("out/victim").link("abs", out).file("abs/victim").link("self", "/proc/self/root")
    tricks.file("self" + out + "/victim").link("above", "..").directory("above/above", 0o700).hard("twin", "x").file("x")
    yield "links that would lead out", [tricks]
    yield "links absolute, dangling, circular", [Layer().link("abs", "/etc/x").link("gone", "no/where").link("self", "self").link("up", "../../../..")]
    yield "long names of GNU tar", [Layer(gnu).file(long, "deep").link("to", long).file("x" * 255, "255")]
    yield "long names of PAX", [Layer().file(long, "deep").link("to", long).file("y" * 255, "255")]
    yield "long names of ustar", [Layer(ustar).file("p" * 150 + "/" + "q" * 95, "prefix")]
    yield "the seventh Unix", [Layer().raw(header(b"seven", b"7", b"\0", v7), b"7").raw(header(b"seventh/", b"", b"\0", v7, 0o755)).raw(header(b"seventh/x", b"x", b"\0", v7), b"x")]
    yield "sparse, GNU's old format", [sparse_old([(4096, 512), (65536, 100)], 1 << 20)]
    yield "sparse, GNU's old format, long map", [sparse_old([(8192 * number + 1, 1000) for number in range(40)], 1 << 20)]
    yield "sparse, PAX 0.0", [sparse_0_0()]
    yield "sparse, PAX 0.1", [sparse_by_tar(room, ["--format=pax", "--sparse-version=0.1"])]
    yield "sparse, PAX 1.0", [sparse_by_tar(room, ["--format=pax", "--sparse-version=1.0"])]
    yield "sparse, by GNU tar", [sparse_by_tar(room, ["--format=gnu"])]
    yield "extended attributes", [Layer().file("f", pax=rich).directory("d", pax=rich)]
    yield "extended attributes of links and devices", [Layer().link("l", "f", pax={"SCHILY.xattr.trusted.x": "l"}).add("fifo", "p", pax={"SCHILY.xattr.trusted.x": "p"})]
    yield "attributes that overlayfs goes by", [base(), Layer().directory("a", pax={"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.redirect": "/b"})]
    yield "access control lists", [Layer().file("f", pax={"SCHILY.xattr.system.posix_acl_access": ACL}, mode=0o664).directory("d", pax={"SCHILY.xattr.system.posix_acl_default": ACL}).file("d/x", mode=0o600)]
    yield "file capabilities and another owner", [Layer().file("able", owner=(5, 6), mode=0o755, pax=capable)]
    yield "set-user-id, set-group-id, sticky", [Layer().file("u", mode=0o4755, owner=(1, 2)).file("g", mode=0o2755, owner=(3, 4)).directory("t", 0o1777).directory("s", 0o2775, owner=(0, 50)).file("s/in").directory("s/sub")]
    yield "devices and fifos", [Layer().add("char", "null", device=(1, 3), mode=0o666).add("block", "disk", device=(259, 70000), mode=0o660, owner=(0, 6)).add("fifo", "pipe", mode=0o622)]
    yield "kinds that nobody knows", [base().add(b"s", "socket").add(b"V", "label").add(b"Z", "what", b"content").file("after")]
    yield "contiguous file", [Layer().add("more", "seven", b"seven")]
    yield "times with fractions", [Layer().file("f", pax={"mtime": "1500000000.123456789"}).directory("d", pax={"mtime": "1500000001.000000001"}).link("l", "f", pax={"mtime": "1500000002.5"})]
    yield "times before 1970", [Layer().raw(negative(-1), b"x").file("p", pax={"mtime": "-86400.25"}).directory("d", pax={"mtime": "-2147483648"}).link("l", "p", pax={"mtime": "-3"})]
    yield "times after 2038 and 2242", [Layer(gnu).file("a", time=1 << 32).file("b", time=1 << 33), Layer().file("c", pax={"mtime": "8589934593"})]
    yield "owners beyond 2097151", [Layer(gnu).file("g", owner=(3_000_000, 4_000_000_000)), Layer().file("p", owner=(3_000_001, 4_000_000_001)).directory("d", owner=(2_500_000, 1))]
    yield "duplicate entries", [Layer().file("f", "1").file("f", "second").directory("d").file("d/x").file("d", "file").link("l", "f").file("l", "not through the link").file("e", "e").directory("e", 0o711)]
    yield "directories that forbid writing", [Layer().directory("r", 0o555).file("r/f").directory("n", 0).directory("n/sub", 0o111).file("n/sub/f", mode=0)]
    yield "entries before their directories", [Layer().file("x/y/z", "z").directory("x/y", 0o700, time=TIME - 2).directory("x", 0o711, time=TIME - 1)]
    yield "directories without an entry, new", [Layer().file("x/y/z", "z")]
    yield "directories without an entry, of a lower layer", [base(), Layer(root=False).file("a/sub/new", "n")]
    yield "directories without an entry, of the middle layer", [base(), Layer().directory("a", 0o700, owner=(1, 1)), Layer(root=False).file("a/sub/new").file("a/.wh.one", "")]
    yield "root with attributes", [Layer(root=False).directory("./", 0o700, time=TIME - 3, owner=(4, 5)).file("f")]
    yield "root with attributes of the second layer", [base(), Layer(root=False).directory(".", 0o1711, time=TIME - 4), Layer(root=False).file("f")]
    yield "below a link of a lower layer", [usr(), Layer(root=False).file("lib/new", "n").file("bin/tool", mode=0o755).directory("lib/modules", 0o700).file("lib/modules/x")]
    yield "below a link of a lower layer, replacing", [usr(), Layer(root=False).file("lib/old", "new").file("usr/lib/kept", "kept too")]
    yield "whiteout below a link of a lower layer", [usr(), Layer(root=False).file("lib/.wh.old", "")]
    yield "opaque mark below a link of a lower layer", [usr(), Layer(root=False).file("lib/.wh..wh..opq", "").file("lib/new")]
    yield "hard link below a link of a lower layer", [usr(), Layer(root=False).file("lib/new", "n").hard("lib/twin", "lib/new").hard("far", "lib/old")]
    yield "below links of two lower layers", [usr(), Layer().link("l64", "lib"), Layer(root=False).file("l64/deep/x", "x")]
    yield "below a link whose target is in another layer", [Layer().link("opt", "srv/opt"), Layer().directory("srv", 0o711).directory("srv/opt", 0o700), Layer(root=False).file("opt/x")]
    yield "below a link to nothing", [Layer().link("opt", "/not/yet"), Layer(root=False).file("opt/x")]
    yield "below a link that leads up", [Layer().directory("d").link("d/up", "../../../e"), Layer(root=False).file("d/up/x")]
    yield "link of the same layer to a lower directory", [base(), Layer(root=False).link("c", "a/sub").file("c/new", "n")]
    yield "link removed, then its name again", [usr(), Layer(root=False).file(".wh.lib", "").file("lib/new", "n")]
    yield "names that are not UTF-8", [Layer().file(b"\xff\xfe\x80", "x").directory(b"caf\xe9").link(b"l\xf0", b"\xff\xfe\x80").file("größe", "ß")]
    yield "names with line ends and other signs", [Layer().file("a\nb", "x").file(" ", "x").file("*?[", "x").file("a:b,c\\d", "x").file("-rf", "x").file("...", "x")]
    yield "names with dots and slashes", [Layer().directory("./d/").file(".//d/./f", "f").file("/abs/x", "x").file("./././g", "g")]
    yield "empty and repeated layers", [Layer(root=False), base(), Layer(root=False), Layer(root=False)]
    yield "127 layers", [Layer().directory("d").file("d/same", "0")] + [Layer(root=False).file(f"d/{number}").file("d/same", str(number)) for number in range(126)]
    crowd = Layer()
    for number in range(many):
        if number % 500 == 0:
            crowd.directory(f"d{number // 500}")
        crowd.file(f"d{number // 500}/f{number}", str(number))
    yield "many files", [crowd]
    yield "packed by zstd", [base(), Layer().file("zstd", "z" * 100000)], "zstd"
    yield "not packed", [base(), Layer().file("tar", "t")], "none"
    yield "packed by gzip in pieces", [base(), Layer().file("pieces", "p" * 5000)], "pieces"
    yield "archive that ends with its last byte", [base(), Layer().file("last", "x" * 700)], "short"
    yield "archive with a long end", [base(), Layer().file("long", "x")], "long"


def pack(layer, how):
    tar = layer.end()
    if how == "short":
        tar = tar[:-1024].rstrip(b"\0")
    elif how == "long":
        tar += bytes(1 << 20)
    if how == "none":
        return tar, tar, "tar"
    if how == "zstd":
        return tar, subprocess.run(["zstd", "-q", "-c"], input=tar, check=True, stdout=subprocess.PIPE).stdout, "tar+zstd"
    parts = [tar[at:at + 3000] for at in range(0, len(tar), 3000)] if how == "pieces" else [tar]
    return tar, b"".join(gzip.compress(part, 6, mtime=0) for part in parts), "tar+gzip"


def write(layout, layers, how):
    blobs = os.path.join(layout, "blobs/sha256")
    os.makedirs(blobs)

    def blob(content, kind):
        digest = hashlib.sha256(content).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as file:
            file.write(content)
        return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(content)}

    packed = [pack(layer, how) for layer in layers]
    diff_ids = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar, _, _ in packed]
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    described = [blob(content, "layer.v1." + kind) for _, content, kind in packed]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": described,
    }
    manifest = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    with open(os.path.join(layout, "index.json"), "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [manifest]}, file)
    with open(os.path.join(layout, "oci-layout"), "w") as file:
        file.write('{"imageLayoutVersion": "1.0.0"}')


def write_small(directory, name, layers):
    """Those that a fuzzer can do something with."""
    for number, layer in enumerate(layers[:3]):
        if len(layer.bytes) <= 8192:
            with open(os.path.join(directory, f"{name}-{number}.tar"), "wb") as file:
                file.write(layer.bytes)


def main(room, many, archives=None):
    told = []
    for number, (oddity, layers, *how) in enumerate(images(room, int(many))):
        name = f"hand-{number:02}"
        if archives:
            write_small(archives, name, layers)
            continue
        write(os.path.join(room, name), layers, *how or ["gzip"])
        told.append({"name": name, "oddity": oddity})
    with open(os.path.join(room, "images.json"), "w") as file:
        json.dump(told, file)


main(*sys.argv[1:])
