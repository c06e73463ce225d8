"""What the tricks with users begin with: started as root, which only becomes the users, or as one of them."""
import os
import sys


def become(uid):
    if os.getuid() == uid:
        return
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def ready():
    """The sockets are where the mode wants them."""
    print("ready", flush=True)


def take_number(pid, uid, seconds):
    """A process of the user gets the number of one that has ended, and sleeps. Its pid."""
    for _ in range(4000):
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(pid - 1))
        heir = os.fork()
        if heir == 0:
            if os.getpid() != pid:
                os._exit(0)
            become(uid)
            os.execv("/bin/sleep", ["sleep", str(seconds)])
        if heir == pid:
            return heir
        os.waitpid(heir, 0)
    sys.exit("the number was never free")
