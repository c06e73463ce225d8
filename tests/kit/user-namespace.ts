/** Arguments: the user, whom it appears as inside, the command. */
const PROGRAM = `
import ctypes, os, sys
CLONE_NEWNS, CLONE_NEWUSER, PR_SET_DUMPABLE = 0x20000, 0x10000000, 4
libc = ctypes.CDLL(None, use_errno=True)

def require(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a user namespace")

user, inside = int(sys.argv[1]), int(sys.argv[2])
root = os.open("/", os.O_RDONLY)
with open("/proc/self/ns/mnt") as mounts:
    require(libc.setns(mounts.fileno(), CLONE_NEWNS))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
require(libc.prctl(PR_SET_DUMPABLE, 1))
require(libc.unshare(CLONE_NEWUSER))
for name, text in (("setgroups", "deny"), ("uid_map", f"{inside} {user} 1"), ("gid_map", f"{inside} {user} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
os.fchdir(root)
os.chroot(".")
os.execvp(sys.argv[3], sys.argv[3:])
`;

/**
 * The command by which root runs another one as user and group `uid` in a user namespace of its own, where it appears as `inside`. Like `unshare --user`,
 * and also in a chroot, where the kernel makes no user namespace: it is made at the root of the mount namespace.
 */
export function inUserNamespace(
  { uid, inside = uid }: { readonly uid: number; readonly inside?: number },
  ...command: readonly string[]
): string[] {
  return ['/usr/bin/python3', '-c', PROGRAM, String(uid), String(inside), ...command];
}
