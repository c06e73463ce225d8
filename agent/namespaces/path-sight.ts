import { lstatSync, readlinkSync, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';

/**
 * What is at a path at a time. `there`: a file, by a number that no other has while somebody holds it; `absent`: nothing, as between two pods; `failed`: it cannot be told, or
 * is not believed.
 */
export type PathSight =
  | { readonly kind: 'there'; readonly identity: string }
  | { readonly kind: 'absent' }
  | { readonly kind: 'failed'; readonly error: PicketError };

/** As many as the kernel follows. */
const MAX_LINKS = 40;
/** Of a mode: that the group, or everybody, may write. */
const OTHERS_WRITE = 0o022;
const ROOT = 0;

/**
 * Looks what a path leads to. Nothing is looked at beyond a folder in which somebody else than root and the agent could make or move something: he could lead the agent to
 * another namespace than was meant, keep it waiting (FUSE), or in circles. What still is what it was `before` was believed then. Never throws.
 */
export function lookAtPath(path: string, before?: PathSight): PathSight {
  return look(path, () => {
    if (before?.kind === 'there' && identityOf(path) === before.identity) return before;
    walk(path);
    const identity = identityOf(path);
    return identity === undefined ? { kind: 'absent' } : { kind: 'there', identity };
  });
}

/** As `lookAtPath`, for all that may be in a folder: `failed` where others could make something in it. */
export function lookInFolder(folder: string): PathSight {
  return look(folder, () => {
    const at = walk(folder);
    requireGuarded(at);
    return { kind: 'there', identity: at };
  });
}

/** Which file a path leads to; undefined where there is none. A namespace that is held gives its number to no other. Throws what the kernel says. */
export function identityOf(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? undefined : `${found.dev} ${found.ino}`;
}

function look(path: string, work: () => PathSight): PathSight {
  try {
    return work();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'absent' };
    if (error instanceof PicketError) return { kind: 'failed', error };
    return { kind: 'failed', error: refused(`Cannot look at ${path}: ${code}`, error) };
  }
}

/** Goes the way that the kernel goes, link by link, through folders that are guarded. Returns where it ends. */
function walk(path: string): string {
  let at = '/';
  let rest = partsOf(path);
  for (let links = 0; rest.length > 0;) {
    requireGuarded(at);
    const [next = '', ...behind] = rest;
    const child = join(at, next);
    if (!lstatSync(child).isSymbolicLink()) {
      at = child;
      rest = behind;
      continue;
    }
    if (++links > MAX_LINKS) throw refused(`Cannot follow ${path}: it leads in circles`);
    const target = readlinkSync(child);
    if (isAbsolute(target)) at = '/';
    rest = [...partsOf(target), ...behind];
  }
  return at;
}

function requireGuarded(folder: string): void {
  const { uid, mode } = lstatSync(folder);
  const isOurs = uid === ROOT || uid === process.getuid?.();
  // A sticky bit keeps others from moving what is there, not from being the first.
  if (isOurs && (mode & OTHERS_WRITE) === 0) return;
  throw refused(`Cannot believe what is in ${folder}: others than root may write there`);
}

function partsOf(path: string): readonly string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

function refused(message: string, cause?: unknown): PicketError {
  return new PicketError('unavailable', 'network_namespace', message, { cause });
}
