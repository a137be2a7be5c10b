# System calls that no shell makes: exit status 0 if the call succeeds.
my ($what, @rest) = @ARGV;
sub ends { syscall(231, $_[0] ? 0 : 1) }
if ($what eq 'getfd') {
    my $process = syscall(434, 1, 0);
    ends(0) if $process < 0;
    for my $number (0 .. 9) { ends(1) if syscall(438, $process, $number, 0) >= 0 }
    ends(0);
}
if ($what eq 'handle') {
    # The root of most file systems has the inode 2 or 128 (CVE-2014-3519, shocker).
    open(my $here, '<', '/etc/hosts') or ends(0);
    for my $inode (2, 128, 256) {
        my $handle = pack('IiQ', 8, 1, $inode);
        ends(1) if syscall(304, fileno($here), $handle, 0) >= 0;
    }
    ends(0);
}
if ($what eq 'chroot') {
    mkdir '/below';
    chroot '/below' or ends(0);
    chdir '..' for 1 .. 64;
    chroot '.' or ends(0);
    ends(-e $ENV{VICTIM});
}
my @numbers = map { $_ =~ /^-?\d+$/ ? 0 + $_ : hex($_) } ($what, @rest);
my $result = syscall($numbers[0], @numbers[1 .. $#numbers]);
# Who is refused gets EPERM, EACCES or ENOSYS; whoever gets another answer has reached what finds fault with the arguments.
ends($result >= 0 || ($! != 1 && $! != 13 && $! != 38));
