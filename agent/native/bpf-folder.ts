import { lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, statfsSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import { openPinned, pinObject } from './bpf-link.ts';

/** linux/magic.h */
const BPF_FS_MAGIC = 0xcafe4a11;
const OTHERS = 0o077;

/** A folder in a BPF file system that nobody else may enter. What has a name in it outlives this process. */
export class BpfFolder {
  readonly path: string;
  readonly #ownerUid: number;

  constructor(path: string, ownerUid: number) {
    this.path = path;
    this.#ownerUid = ownerUid;
  }

  /** Throws `failed_precondition`, reason `bpf_folder`, where the folder is not in a folder of a BPF file system. */
  requireBpf(): void {
    if (isBpf(dirname(this.path))) return;
    const why = 'it is not in a BPF file system, which systemd mounts at /sys/fs/bpf';
    throw wrong(this.path, `${why}: mount -t bpf bpf /sys/fs/bpf`);
  }

  /** Makes the folder where there is none. Throws as `requireBpf`, also where it is no folder or others may enter it. */
  make(): void {
    this.requireBpf();
    try {
      mkdirSync(this.path, { mode: 0o700 });
    } catch (cause) {
      const isThere = (cause as NodeJS.ErrnoException).code === 'EEXIST';
      if (!isThere) throw wrong(this.path, cause instanceof Error ? cause.message : String(cause), cause);
    }
    // Where everybody may make folders there, somebody may have been before us: he could take away what we pin.
    const found = lstatSync(this.path);
    if (!found.isDirectory() || found.uid !== this.#ownerUid || (found.mode & OTHERS) !== 0)
      throw wrong(this.path, 'it is no folder, others may enter it, or it is not the agent’s: remove it');
  }

  /** Opens what is pinned under a name; undefined where nothing is. */
  open(name: string): number | undefined {
    return openPinned(join(this.path, name));
  }

  /** Pins a descriptor, in the place of what has the name now. */
  pin(name: string, fd: number): void {
    // Dots are not allowed in names there.
    const draft = join(this.path, `new_${name}`);
    remove(draft);
    pinObject(fd, draft);
    renameSync(draft, join(this.path, name));
  }

  /** The names of what is pinned; none where there is no folder. */
  list(): readonly string[] {
    return isBpf(this.path) ? readdirSync(this.path) : [];
  }

  /** Takes away what is pinned under a name. */
  drop(name: string): void {
    unlinkSync(join(this.path, name));
  }

  /** Takes away all that is pinned, and the folder; links end by it. Nothing there is no error. */
  remove(): void {
    if (!isBpf(this.path)) return;
    for (const name of this.list()) this.drop(name);
    rmdirSync(this.path);
  }
}

function isBpf(path: string): boolean {
  try {
    return statfsSync(path).type === BPF_FS_MAGIC;
  } catch {
    return false;
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Nothing is there, as it should be; what is, pinning tells.
  }
}

function wrong(path: string, why: string, cause?: unknown): PicketError {
  return new PicketError('failed_precondition', 'bpf_folder', `Cannot pin programs in ${path}: ${why}`, {
    cause,
  });
}
