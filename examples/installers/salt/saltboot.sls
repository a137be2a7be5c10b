# On the master: what a machine does with its disk.
partitions:
  cmd.run:
    - name: printf 'label:gpt\ntype=linux, name=root\n' | sfdisk --quiet /dev/vda
    - creates: /dev/vda1

file system:
  cmd.run:
    - name: until [ -b /dev/vda1 ]; do sleep 0.1; done; mkfs.ext4 -q -L system /dev/vda1

{{ salt['environ.get']('NEWROOT') }}:
  mount.mounted:
    - device: /dev/vda1
    - fstype: ext4
    - mkmnt: true
    - persist: false

/debian.tar.zst:
  file.managed:
    - source: salt://debian.tar.zst
    - skip_verify: true

system:
  cmd.run:
    - name: tar --zstd -xpf /debian.tar.zst -C "$NEWROOT" --numeric-owner && umount "$NEWROOT"

/iguana/mountlist:
  file.managed:
    - contents: LABEL=system {{ salt['environ.get']('NEWROOT') }}
    - follow_symlinks: false
