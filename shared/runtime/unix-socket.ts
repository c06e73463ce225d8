import { chmodSync, lstatSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { connect, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { PicketError } from '../errors/errors.ts';

/** Whoever may write to the folder of a socket can put his own in its place. */
const OTHERS_MAY_WRITE = 0o022;
const FOLDER_MODE = 0o755;

/**
 * Makes `path` free for a new socket: makes its folder where there is none, and removes a socket that a dead process left. Throws `failed_precondition`, reason
 * `socket_folder_unsafe`, when somebody else than root or us may write to the folder, and `unavailable`, reason `listen_failed`, when a living
 * process answers at the path or something that is no socket stands there.
 */
export async function claimSocketPath(path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: FOLDER_MODE });
  requireSafeFolder(dirname(path));
  const file = lstatSync(path, { throwIfNoEntry: false });
  if (file === undefined) return;
  if (!file.isSocket()) throw listenFailed(path, 'something that is no socket stands there');
  if (await isAnswered(path)) throw listenFailed(path, 'another process answers there');
  rmSync(path, { force: true });
}

/** Starts to listen at a claimed path and gives the socket its mode. Throws `unavailable`, reason `listen_failed`. */
export async function listenAtPath(server: Server, path: string, mode: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(listenFailed(path, 'the system refused', cause)));
    server.listen(path, () => resolve());
  });
  // Until here the umask keeps everybody else out.
  chmodSync(path, mode);
}

/** Takes connections on a socket that listens already, which is the server's from now on. */
export async function listenOnDescriptor(server: Server, fd: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(listenFailed(`descriptor ${fd}`, 'the system refused', cause)));
    server.listen({ fd }, () => resolve());
  });
}

/** The descriptor of an accepted connection; undefined when it is closed. */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = (socket as { readonly _handle?: { readonly fd?: number } | null })._handle?.fd;
  return fd === undefined || fd < 0 ? undefined : fd;
}

function requireSafeFolder(folder: string): void {
  const { uid, mode } = statSync(folder);
  const own = process.geteuid?.() ?? 0;
  if ((uid === 0 || uid === own) && (mode & OTHERS_MAY_WRITE) === 0) return;
  throw new PicketError(
    'failed_precondition',
    'socket_folder_unsafe',
    `Cannot listen in ${folder}: it must belong to root or to uid ${own} and be writable for nobody else; it belongs to uid ${uid} and has mode ${(mode & 0o7777).toString(8)}`,
  );
}

async function isAnswered(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function listenFailed(path: string, why: string, cause?: unknown): PicketError {
  return new PicketError('unavailable', 'listen_failed', `Cannot listen on ${path}: ${why}`, { cause });
}
