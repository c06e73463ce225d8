import { readdir, readFile, readlink, stat } from 'node:fs/promises';

/** Column of the state in /proc/net/tcp, and what a listening socket has there. */
const STATE_COLUMN = 3;
const LISTENS = '0A';
const LOCAL_ADDRESS_COLUMN = 1;
const INODE_COLUMN = 9;

/** Names under which an OpenSSH server runs. */
const SSH_SERVERS = new Set(['sshd', 'sshd-session', 'dropbear']);
/** systemd holds the listening socket of an SSH server that it starts for each connection; only its usual port counts then. */
const SYSTEMD = 'systemd';
const USUAL_PORT = 22;

/**
 * The ports at which an SSH server of this network namespace listens, so that capture never cuts off the one who installs it. The
 * server side of `sshConnection` ($SSH_CONNECTION) is always among them. Only root's processes count: anybody may call
 * his program sshd. Processes that end while they are looked at are skipped.
 */
export async function findSshPorts(sshConnection: string | undefined): Promise<readonly number[]> {
  const ports = new Set<number>();
  const live = Number(sshConnection?.split(' ')[3]);
  if (Number.isInteger(live) && live > 0 && live < 65_536) ports.add(live);
  const portOfInode = await readListeners();
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const name = await readNameOfRoots(pid);
    if (!SSH_SERVERS.has(name) && name !== SYSTEMD) continue;
    for (const inode of await readSocketInodes(pid)) {
      const port = portOfInode.get(inode);
      if (port !== undefined && (name !== SYSTEMD || port === USUAL_PORT)) ports.add(port);
    }
  }
  return [...ports].toSorted((a, b) => a - b);
}

/** Name of a process that belongs to root; empty for any other. */
async function readNameOfRoots(pid: string): Promise<string> {
  try {
    const { uid } = await stat(`/proc/${pid}`);
    return uid === 0 ? (await readFile(`/proc/${pid}/comm`, 'utf8')).trim() : '';
  } catch {
    return '';
  }
}

/** Port by inode of every TCP socket that listens. */
async function readListeners(): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>();
  for (const path of ['/proc/net/tcp', '/proc/net/tcp6']) {
    const text = await readFile(path, 'utf8').catch(() => '');
    for (const [inode, port] of parseListeners(text)) found.set(inode, port);
  }
  return found;
}

/** Port by inode of every listening socket in the text of /proc/net/tcp or tcp6. Lines that are none are passed over. */
export function parseListeners(text: string): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const line of text.split('\n').slice(1)) {
    const columns = line.trim().split(/\s+/);
    const port = /^[0-9A-F]+:([0-9A-F]{4})$/.exec(columns[LOCAL_ADDRESS_COLUMN] ?? '')?.[1];
    const inode = columns[INODE_COLUMN];
    if (columns[STATE_COLUMN] === LISTENS && port !== undefined && inode !== undefined)
      found.set(inode, Number.parseInt(port, 16));
  }
  return found;
}

async function readSocketInodes(pid: string): Promise<readonly string[]> {
  const names = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const inodes: string[] = [];
  for (const name of names) {
    const target = await readlink(`/proc/${pid}/fd/${name}`).catch(() => '');
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    if (inode !== undefined) inodes.push(inode);
  }
  return inodes;
}
