# Runs swtpm behind a pseudo-terminal, whose path then behaves as a TPM character device: perl FILE <link to the device> <swtpm's options>
use strict;
use warnings;

# Descriptors up to this number are inherited by swtpm.
$^F = 255;
open my $master, '+<', '/dev/ptmx' or die "ptmx: $!";
my $number = pack 'i', 0;
# TIOCSPTLCK unlocks the far end, TIOCGPTN tells its number.
ioctl $master, 0x40045431, $number or die "unlock: $!";
ioctl $master, 0x80045430, $number or die "number: $!";
my $path = '/dev/pts/' . unpack 'i', $number;
# Held open: without a reader at the far end the terminal would report an error.
open my $held, '+<', $path or die "$path: $!";
system('stty', '-F', $path, 'raw', '-echo') == 0 or die 'stty';
symlink $path, $ARGV[0] or die "symlink: $!";
exec 'swtpm', 'chardev', '--fd', fileno $master, @ARGV[1 .. $#ARGV];
