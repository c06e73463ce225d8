import { readlinkSync } from 'node:fs';
import { stat, type FileHandle } from 'node:fs/promises';
import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { parseSelector, type Selector } from '../../shared/spiffe/selector.ts';
import { AccountNames } from './account-names.ts';
import { ExecutableDigests, openExecutable } from './executable-digests.ts';
import { EFFECTIVE, isUnchanged, readProcessFacts, type ProcessFacts } from './process-facts.ts';
import type { ProcessReference, WorkloadAttestor } from './workload-attestor.ts';

/** A larger program has no `unix:sha256`, which is logged. */
const MAX_EXECUTABLE_BYTES = 512 * 1024 * 1024;

/** What the attestor needs. */
export interface UnixAttestorOptions {
  readonly log: Log;
  readonly clock: Clock;
  /**
   * Whether the digest of the program can still earn something for a process of which `known` is true. A program is only hashed then, so that
   * nobody can keep the agent busy with large files of his own.
   */
  readonly isDigestWanted: (known: readonly Selector[]) => boolean;
  /** Defaults: /etc/passwd, /etc/group, 512 MiB. */
  readonly passwdFile?: string;
  readonly groupFile?: string;
  readonly maxExecutableBytes?: number;
}

/**
 * What Unix knows of a process, named as SPIRE names it: `unix:uid`, `user`, `gid`, `group`, `supplementary_gid`, `supplementary_group`, `path` and
 * `sha256`. Users and groups are the effective ones. `unix:path` is only said of a process in the host's mount namespace, and only while
 * that path still leads to the file that it runs: in a namespace of its own a process may put any file at any path, and a program
 * that was replaced has to be started again to earn its path. Neither path nor digest is said of a process in a user namespace of its own, where it may name any file
 * as its program (prctl(2), PR_SET_MM_MAP).
 */
export class UnixAttestor implements WorkloadAttestor {
  readonly type = 'unix';
  readonly #users: AccountNames;
  readonly #groups: AccountNames;
  readonly #digests: ExecutableDigests;
  readonly #host = readHostNamespace();
  readonly #isDigestWanted: UnixAttestorOptions['isDigestWanted'];
  readonly #log: Log;

  constructor(options: UnixAttestorOptions) {
    this.#users = new AccountNames(options.passwdFile ?? '/etc/passwd', options.log);
    this.#groups = new AccountNames(options.groupFile ?? '/etc/group', options.log);
    const maxBytes = options.maxExecutableBytes ?? MAX_EXECUTABLE_BYTES;
    this.#digests = new ExecutableDigests({ maxBytes, clock: options.clock });
    this.#isDigestWanted = options.isDigestWanted;
    this.#log = options.log;
  }

  async attest({ pid, startTime }: ProcessReference): Promise<readonly Selector[]> {
    const facts = readProcessFacts(pid);
    if (facts?.startTime !== startTime) throw gone(pid);
    const selectors = [...this.#accountSelectors(facts), ...(await this.#programSelectors(facts))];
    if (!isUnchanged(facts)) throw gone(pid);
    return selectors;
  }

  #accountSelectors({ uids, gids, groups }: ProcessFacts): readonly Selector[] {
    const uid = uids[EFFECTIVE] ?? -1;
    const gid = gids[EFFECTIVE] ?? -1;
    return [
      ...select('uid', uid),
      ...select('user', this.#users.find(uid)),
      ...select('gid', gid),
      ...select('group', this.#groups.find(gid)),
      ...groups.flatMap((id) => [
        ...select('supplementary_gid', id),
        ...select('supplementary_group', this.#groups.find(id)),
      ]),
    ];
  }

  async #programSelectors(facts: ProcessFacts): Promise<readonly Selector[]> {
    const file = await openExecutable(facts.pid);
    if (file === undefined) return [];
    try {
      // Looked at after the file was opened: whoever has left the host's user namespace does not come back to it.
      if (findUserNamespace(facts.pid) !== this.#host.userNamespace) return [];
      const path = (await this.#isAtPath(file, facts)) ? select('path', facts.executablePath) : [];
      const known = [...this.#accountSelectors(facts), ...path];
      if (!this.#isDigestWanted(known)) return path;
      return [...path, ...(await this.#digestSelector(file, facts))];
    } finally {
      await file.close();
    }
  }

  async #isAtPath(file: FileHandle, { mountNamespace, executablePath }: ProcessFacts): Promise<boolean> {
    if (executablePath === undefined || mountNamespace !== this.#host.mountNamespace) return false;
    try {
      const [running, there] = await Promise.all([
        file.stat({ bigint: true }),
        stat(`${this.#host.root}${executablePath}`, { bigint: true }),
      ]);
      return running.dev === there.dev && running.ino === there.ino;
    } catch {
      // Replaced or deleted: the path leads nowhere.
      return false;
    }
  }

  async #digestSelector(file: FileHandle, facts: ProcessFacts): Promise<readonly Selector[]> {
    try {
      return select('sha256', await this.#digests.digest(file));
    } catch (cause) {
      const error = toPicketError(cause);
      this.#log.warn('program_not_hashed', { pid: facts.pid, path: facts.executablePath, error });
      return [];
    }
  }
}

interface HostNamespaces {
  readonly mountNamespace: string;
  readonly userNamespace: string;
  readonly root: string;
}

/**
 * The namespaces of the host, and where its root is for us: the agent may run in a mount namespace of its own, as systemd's hardening makes
 * it. Where the first process may not be looked at, ours are taken for the host's.
 */
function readHostNamespace(): HostNamespaces {
  try {
    return { ...namespacesOf('1'), root: '/proc/1/root' };
  } catch {
    return { ...namespacesOf('self'), root: '' };
  }
}

function namespacesOf(process: string): Omit<HostNamespaces, 'root'> {
  return {
    mountNamespace: readlinkSync(`/proc/${process}/ns/mnt`),
    userNamespace: readlinkSync(`/proc/${process}/ns/user`),
  };
}

function findUserNamespace(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/user`);
  } catch {
    return undefined;
  }
}

/** None for what cannot be a selector, such as a path with a line feed in it. */
function select(kind: string, value: string | number | undefined): readonly Selector[] {
  if (value === undefined) return [];
  try {
    return [parseSelector(`unix:${kind}:${value}`)];
  } catch {
    return [];
  }
}

function gone(pid: number): PicketError {
  return new PicketError(
    'not_found',
    'process_gone',
    `Cannot attest process ${pid}: it has ended or changed`,
  );
}
