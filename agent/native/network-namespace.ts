import { fstatSync, statSync } from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { readNetnsCookie } from './netns-cookie.ts';

/** Opening a path does not wait for anybody, whatever stands there. */
const O_NONBLOCK_CLOEXEC = 0o2004000;
const CLONE_NEWNET = 0x40000000;
/** Of linux/nsfs.h: of which kind a namespace is, and a descriptor of the user namespace that owns it. */
const NS_GET_NSTYPE = 0xb703;
const NS_GET_USERNS = 0xb701;
const OWN = '/proc/thread-self/ns/net';
const OWN_USERS = '/proc/thread-self/ns/user';

let ownFd: number | undefined;
let isWithin = false;

/** Where a question or a socket belongs; the agent's own network namespace unless given. */
export interface InNamespace {
  readonly namespace?: NetworkNamespace | undefined;
}

/**
 * Another network namespace of this host, held open: it is this very one whatever its path leads to later, and lives as long as it is held. A socket belongs for ever to the
 * namespace in which it was made, so that only making it has to happen within.
 */
export class NetworkNamespace implements Disposable {
  /** As operators call it. */
  readonly name: string;
  /** What no other namespace has while the machine runs. */
  readonly cookie: bigint;
  /** As /proc/PID/ns/net of its processes says, such as `net:[4026532008]`. */
  readonly link: string;
  /** Whether its own rules number users otherwise than the agent does: it belongs to another user namespace than the agent's. */
  readonly hasOtherUsers: boolean;
  /** Netlink sockets that were made within, by family; of `askNetlink`. */
  readonly netlinkSockets = new Map<number, number>();
  /** Open on it, and its own: for as long as it is held. */
  readonly fd: number;
  #isClosed = false;
  #isReleased = false;

  private constructor(name: string, fd: number) {
    this.name = name;
    this.fd = fd;
    this.link = `net:[${fstatSync(fd).ino}]`;
    this.hasOtherUsers = belongsToOtherUsers(fd);
    this.cookie = this.within(readNetnsCookie);
  }

  /** Opens what is mounted at a path. Throws `unavailable`, reason `network_namespace`, for what is no network namespace, is the agent's own, or may not be entered (CAP_SYS_ADMIN). */
  static open(name: string, path: string): NetworkNamespace {
    return NetworkNamespace.#hold(name, { fd: openPath(path), path });
  }

  static #hold(name: string, { fd, path }: { readonly fd: number; readonly path: string }): NetworkNamespace {
    try {
      if (libc().ioctl(fd, NS_GET_NSTYPE, 0) !== CLONE_NEWNET)
        throw failed(path, 'it is no network namespace');
      const opened = new NetworkNamespace(name, fd);
      if (opened.cookie === readNetnsCookie()) throw failed(path, "it is the agent's own");
      return opened;
    } catch (error) {
      libc().close(fd);
      throw error;
    }
  }

  /** Takes over a descriptor that is open on one. Throws as `open`; the descriptor is closed then. */
  static adopt(name: string, fd: number): NetworkNamespace {
    return NetworkNamespace.#hold(name, { fd, path: name });
  }

  /** Whether it was retired: the agent does not serve it any more. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** A path that leads to it for other programs, as long as it is held and this process lives. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.fd}`;
  }

  /**
   * Does something within. The thread is the one that everything else of the agent runs on, so it is back before this returns, whatever `work` throws; `work` cannot wait for
   * anything, and makes nothing but calls of libc: a thread that the runtime starts meanwhile would stay. An agent that could not come back would take one namespace for another: it ends at once.
   * Throws `unavailable`, reason `network_namespace`.
   */
  within<T>(work: () => T extends PromiseLike<unknown> ? never : T): T {
    if (this.#isClosed) throw failed(this.name, 'it is not captured any more');
    if (isWithin) throw failed(this.name, 'the agent is within another one');
    const own = (ownFd ??= openPath(OWN));
    if (libc().setns(this.fd, CLONE_NEWNET) !== 0) throw failed(this.name, errnoName(errno()));
    isWithin = true;
    try {
      return work();
    } finally {
      if (libc().setns(own, CLONE_NEWNET) !== 0) process.abort();
      isWithin = false;
    }
  }

  /** Nobody may use it any more; its `path` still leads to it. */
  retire(): void {
    this.#isClosed = true;
  }

  /** Lets it go: it ends with its last process and connection. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    if (this.#isReleased) return;
    this.#isReleased = true;
    for (const fd of this.netlinkSockets.values()) libc().close(fd);
    this.netlinkSockets.clear();
    libc().close(this.fd);
  }
}

/** Does something in a namespace, or in the agent's own where there is none. As `NetworkNamespace.within`. */
export function inNamespace<T>(
  { namespace }: InNamespace,
  work: () => T extends PromiseLike<unknown> ? never : T,
): T {
  return namespace === undefined ? work() : namespace.within(work);
}

/** What may not be asked is not the agent's, either. */
function belongsToOtherUsers(fd: number): boolean {
  const owner = libc().ioctl(fd, NS_GET_USERNS, 0);
  if (owner < 0) return true;
  try {
    return fstatSync(owner).ino !== statSync(OWN_USERS).ino;
  } finally {
    libc().close(owner);
  }
}

function openPath(path: string): number {
  const bytes = Buffer.from(`${path}\0`);
  const native = allocateNative(bytes.length);
  native.set(bytes);
  const fd = libc().open(native, O_NONBLOCK_CLOEXEC);
  if (fd < 0) throw failed(path, errnoName(errno()));
  return fd;
}

function failed(what: string, why: string): PicketError {
  return new PicketError(
    'unavailable',
    'network_namespace',
    `Cannot enter the network namespace ${what}: ${why}`,
  );
}
