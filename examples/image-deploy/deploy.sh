#!/bin/bash
# Streams the raw image of a disk to a disk. The image is never whole in memory, and the disk is no disk of a system
# until the checksum of all that came was right: the first MiB, where partition tables begin, is written last.
#
#   IMAGE    https://HOST/FILE, or oci://REGISTRY/NAME:TAG, an artifact whose one layer is the image; the name ends
#            with .zst, .gz or .xz when it is packed (of an artifact: its media type does)
#   SHA256   of the bytes that travel; an artifact tells it itself
#   DISK     the disk to overwrite
#   PLAIN    `true`: the registry of the artifact speaks http
set -euo pipefail

head=/head
summed=/summed

say() {
    echo "$*" > /iguana/progress
}

die() {
    say "deployment failed: $*"
    exit 1
}

# Sets url, sha256 and kind from the artifact's manifest (OCI Distribution Specification, "Pulling manifests").
look_up() {
    local reference=$1 registry rest manifest type=application/vnd.oci.image.manifest.v1+json
    registry=${reference%%/*} rest=${reference#*/}
    local base=https://$registry/v2/${rest%:*}
    [ "${PLAIN:-}" = true ] && base=http://$registry/v2/${rest%:*}
    manifest=$(curl -fsSL -H "Accept: $type" "$base/manifests/${rest##*:}") || die "no manifest of $reference"
    local digest
    digest=$(jq -er '.layers | if length == 1 then .[0].digest else error("not one layer") end' <<< "$manifest") ||
        die "the artifact $reference is not one image"
    url=$base/blobs/$digest sha256=${digest#sha256:} kind=$(jq -r '.layers[0].mediaType' <<< "$manifest")
}

unpack() {
    case $1 in
    *.zst | *+zstd) zstd -dc ;;
    *.gz | *+gzip) gzip -dc ;;
    *.xz | *+xz) xz -dc ;;
    *) cat ;;
    esac
}

write() {
    dd of=$head bs=1M count=1 iflag=fullblock status=none
    dd of="$DISK" bs=4M seek=1M oflag=seek_bytes iflag=fullblock conv=notrunc,fsync status=none
}

IMAGE=${IMAGE:?is not set: https:// or oci://}
DISK=${DISK:?is not set: the disk to overwrite}
[ -b "$DISK" ] || die "$DISK is no disk of this machine"
case $IMAGE in
oci://*) look_up "${IMAGE#oci://}" ;;
*) url=$IMAGE sha256=${SHA256:?is not set: the checksum of $IMAGE} kind=$IMAGE ;;
esac

say "writing $IMAGE to $DISK"
dd if=/dev/zero of="$DISK" bs=1M count=1 conv=notrunc,fsync status=none
mkfifo $summed
sha256sum < $summed > /sum &
curl -fsSL --retry 5 "$url" | tee $summed | unpack "$kind" | write || die "$IMAGE did not come whole"
wait $!
read -r sum _ < /sum
[ "$sum" = "$sha256" ] || die "the checksum is $sum, not $sha256; $DISK has no partition table now"

dd if=$head of="$DISK" conv=notrunc,fsync status=none
sfdisk --quiet --relocate gpt-bak-std "$DISK" 2> /dev/null || true # The disk may be larger than its image was.
blockdev --rereadpt "$DISK"
say "$DISK is written"
