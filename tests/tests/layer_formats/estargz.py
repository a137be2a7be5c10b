# Rewrites the tar archive ARGV[1] as eStargz: ARGV[2] becomes the new archive, ARGV[3] the compressed layer.
# https://github.com/containerd/stargz-snapshotter/blob/main/docs/estargz.md
import gzip, hashlib, io, json, sys, tarfile

source, archive, layer = sys.argv[1:]
# "Landmark files": this one says that nothing is to be prefetched.
LANDMARK, CONTENT, TOC = ".no.prefetch.landmark", b"\x0f", "stargz.index.json"
KINDS = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink", tarfile.REGTYPE: "reg"}


def entry(name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


raw = entry(LANDMARK, CONTENT) + open(source, "rb").read()
packed, plain, entries, start = b"", b"", [], 0


def member(piece):
    global packed, plain
    packed, plain = packed + gzip.compress(piece, mtime=0), plain + piece


for info in tarfile.open(fileobj=io.BytesIO(raw)):
    about = {"name": info.name, "type": KINDS[info.type], "mode": info.mode, "modtime": "1970-01-01T00:00:00Z"}
    if info.linkname:
        about["linkName"] = info.linkname
    member(raw[start:info.offset_data])
    start = info.offset_data
    if info.isreg() and info.size:
        # "Each regular file's payload is compressed as a separate gzip member."
        content = raw[start:start + info.size]
        about |= {"size": info.size, "offset": len(packed), "digest": digest(content), "chunkDigest": digest(content)}
        start += -(-info.size // 512) * 512
        member(raw[info.offset_data:start])
    entries.append(about)
# "The TOC is the last entry of the archive, in a gzip member of its own", with the end of the archive.
toc_offset = len(packed)
member(entry(TOC, json.dumps({"version": 1, "entries": entries}).encode()) + bytes(1024))
# "Footer": an empty gzip member of 51 bytes, whose extra field has the offset of the TOC.
extra = b"SG\x16\x00" + b"%016xSTARGZ" % toc_offset
footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\x00" + extra + b"\x01\0\0\xff\xff" + bytes(8)
assert len(footer) == 51
open(archive, "wb").write(plain)
open(layer, "wb").write(packed + footer)
