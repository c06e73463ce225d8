import { readdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import type {
  DeclaredNamespace,
  NamespacePattern,
  NamespaceSettings,
  NamespaceSource,
} from './namespace-source.ts';
import { lookAtPath, lookInFolder, type PathSight } from './path-sight.ts';

/** One that is to be captured, and what its path led to. */
export interface SeenNamespace {
  readonly declared: DeclaredNamespace;
  readonly sight: PathSight;
}

/**
 * The namespaces that stand in the agent's configuration: each by itself, and those that its patterns match at the time. Whatever leads to it, a namespace is one of them: those
 * that are named go before patterns, and patterns go in their order.
 */
export class HostNamespaces implements NamespaceSource {
  readonly #named: readonly DeclaredNamespace[];
  readonly #matches: readonly Matches[];
  #list: readonly DeclaredNamespace[];
  #look = new Look();

  constructor({ named, patterns }: NamespaceSettings) {
    this.#named = named;
    this.#matches = patterns.map((pattern) => new Matches(pattern));
    this.#list = named;
  }

  list(): readonly DeclaredNamespace[] {
    return this.#list;
  }

  /** The folders in which namespaces come and go. */
  get folders(): readonly string[] {
    return [...new Set(this.#matches.map(({ pattern }) => pattern.folder))];
  }

  /** Those that match and are too many, by label; what is in none is left out. */
  get beyond(): ReadonlyMap<string, number> {
    const counts = this.#matches.map(({ pattern, beyond }) => [pattern.label, beyond] as const);
    return new Map(counts.filter(([, count]) => count > 0));
  }

  /** Looks which are there. Those that were there before go before newcomers, however many come. Never throws. */
  look(): readonly SeenNamespace[] {
    const look = new Look(this.#look);
    const named = this.#named.map((declared) => ({ declared, sight: lookAtNamed(look, declared) }));
    const seen = [...named, ...this.#matches.flatMap((matches) => matches.look(look))];
    this.#look = look;
    this.#list = seen.map(({ declared }) => declared);
    return seen;
  }
}

/** One look at all of them: each namespace is the one's who claims it first. */
class Look {
  readonly #before: ReadonlyMap<string, PathSight>;
  readonly #sights = new Map<string, PathSight>();
  readonly #claims = new Map<string, string>();

  constructor(before?: Look) {
    this.#before = before === undefined ? new Map() : before.#sights;
  }

  at(path: string): PathSight {
    const sight = lookAtPath(path, this.#before.get(path));
    this.#sights.set(path, sight);
    return sight;
  }

  /** Whose it is already; undefined: it is this one's from now on. */
  claim(identity: string, name: string): string | undefined {
    const holder = this.#claims.get(identity);
    if (holder === undefined) this.#claims.set(identity, name);
    return holder;
  }
}

function lookAtNamed(look: Look, { name, path }: DeclaredNamespace): PathSight {
  const sight = look.at(path);
  const holder = sight.kind === 'there' ? look.claim(sight.identity, name) : undefined;
  if (holder === undefined) return sight;
  const message = `Cannot capture what ${path} leads to as ${name}: it is ${holder} already`;
  return { kind: 'failed', error: new PicketError('unavailable', 'network_namespace', message) };
}

/** What one pattern matches. */
class Matches {
  readonly pattern: NamespacePattern;
  readonly #glob: Bun.Glob;
  #known: ReadonlyMap<string, DeclaredNamespace> = new Map();
  #beyond = 0;

  constructor(pattern: NamespacePattern) {
    this.pattern = pattern;
    this.#glob = new Bun.Glob(pattern.pattern);
  }

  get beyond(): number {
    return this.#beyond;
  }

  look(look: Look): readonly SeenNamespace[] {
    const { folder, pattern, most } = this.pattern;
    const sight = lookInFolder(folder);
    // Nothing in it is believed, and it is not read, however much somebody puts there.
    if (sight.kind === 'failed') return [{ declared: this.#declare(pattern), sight }];
    const there = listFiles(folder).filter((file) => this.#glob.match(file));
    const isKnown = (file: string): boolean => this.#known.has(file);
    const files = there.toSorted();
    const inTurn = [...files.filter(isKnown), ...files.filter((file) => !isKnown(file))];
    // Those beyond are claimed as well: what is too much for one pattern is not the next one's.
    const found = inTurn.flatMap((file) => this.#lookAt(file, look));
    this.#beyond = Math.max(0, found.length - most);
    const seen = found.slice(0, most);
    this.#known = new Map(seen.map(({ file, declared }) => [file, declared]));
    return seen;
  }

  #lookAt(file: string, look: Look): readonly (SeenNamespace & { readonly file: string })[] {
    const declared = this.#known.get(file) ?? this.#declare(file);
    const sight = look.at(declared.path);
    if (sight.kind === 'absent') return [];
    const isTaken =
      sight.kind === 'there' &&
      (!isNamespace(declared.path) || look.claim(sight.identity, declared.name) !== undefined);
    return isTaken ? [] : [{ file, declared, sight }];
  }

  #declare(file: string): DeclaredNamespace {
    const { label, folder, routedIn } = this.pattern;
    return { name: `${label}/${file}`, label, path: join(folder, file), addresses: [], routedIn };
  }
}

/** None where there is no such folder, yet. */
function listFiles(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Of linux/magic.h. */
const NSFS_MAGIC = 0x6e73_6673;

/** Whether something is mounted there that can be a network namespace: its file is made a moment before. */
function isNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch {
    return false;
  }
}
