import type { Running } from '../../shared/runtime/shutdown.ts';
import type { KeptRules } from '../capture/kept-capture.ts';
import { FolderWatch } from './folder-watch.ts';
import type { HostNamespaces } from './host-namespaces.ts';
import {
  NamespacePlace,
  type ListenIn,
  type NamespacePlaceOptions,
  type NamespaceStatus,
} from './namespace-place.ts';
import type { DeclaredNamespace } from './namespace-source.ts';
import { Turns } from './turns.ts';

export interface NamespaceKeeperOptions extends Omit<NamespacePlaceOptions, 'turns'> {
  readonly source: Pick<HostNamespaces, 'list' | 'look' | 'folders' | 'beyond'>;
}

/** How often is looked which namespaces are there, in milliseconds: a folder to be read for each pattern, and one or two stat(2) for each namespace. */
const LOOK_EVERY_MS = 250;
/** How long after something came or went in a folder it is looked, in milliseconds: a namespace is mounted over its file a moment after that was made. */
const LOOK_SOON_MS = 15;
/** So many are captured at the same time, each by three runs of nft. */
const AT_ONCE = 4;

/** Captures the namespaces that are to be as they come, and lets them go as they go. It never rejects: what cannot be captured is told by `status`, and stays closed. */
export class NamespaceKeeper implements Running, KeptRules {
  readonly #options: NamespaceKeeperOptions;
  readonly #places = new Map<string, NamespacePlace>();
  /** Those that are no more, until they have let go what they had. */
  readonly #leaving = new Set<NamespacePlace>();
  readonly #turns = new Turns(AT_ONCE);
  readonly #watch = new FolderWatch(() => this.#hear());
  #cancelLook: () => void = () => undefined;
  #cancelSoon: (() => void) | undefined;
  #beyond = '';
  #listenIn: ListenIn | undefined;
  #isLetGo = false;
  #isStopped = false;

  constructor(options: NamespaceKeeperOptions) {
    this.#options = options;
  }

  /** Returns once everything that is there now is captured, or has failed, and it was told where it is reached. Nobody listens in it yet. */
  async start(): Promise<void> {
    await this.#look();
    // Whoever takes connections from now on would refuse what is for those of which the routes are about to be told.
    this.#options.namespaces.followRoutes();
    this.#lookLater();
  }

  get status(): readonly NamespaceStatus[] {
    return Array.from(this.#places.values(), ({ status }) => status);
  }

  /** Those that are closed because they are too many, by label. */
  get beyond(): ReadonlyMap<string, number> {
    return this.#options.source.beyond;
  }

  /** Listens in all that are captured, and in others as they come. */
  async listen(listenIn: ListenIn): Promise<void> {
    this.#listenIn = listenIn;
    await Promise.all(Array.from(this.#places.values(), async (place) => await place.listen(listenIn)));
  }

  /** Captures none any more, and watches the rules of none; those that go are let go of all the same. Listeners stay. */
  async letGo(): Promise<void> {
    this.#isLetGo = true;
    await Promise.all(Array.from(this.#places.values(), async (place) => await place.letGo()));
  }

  async takeUp(): Promise<void> {
    this.#isLetGo = false;
    await Promise.all(Array.from(this.#places.values(), async (place) => await place.takeUp()));
    await this.#look();
  }

  /** Listens no more. The rules stay, and then point at nothing. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelLook();
    this.#cancelSoon?.();
    this.#watch.stop();
    const places = new Set([...this.#places.values(), ...this.#leaving]);
    await Promise.all(Array.from(places, async (place) => await place.leave()));
  }

  async #look(): Promise<void> {
    const { source } = this.#options;
    this.#watch.follow(source.folders);
    const seen = source.look();
    this.#tellBeyond();
    const names = new Set(seen.map(({ declared }) => declared.name));
    const gone = [...this.#places.keys()].filter((name) => !names.has(name));
    const leaving = gone.map(async (name) => await this.#forget(name));
    const holders = this.#holders();
    const looking = seen.map(async ({ declared, sight }) => {
      const place = this.#placeOf(declared);
      const holder = sight.kind === 'there' ? holders.get(sight.identity) : undefined;
      // Another name's until that has let it go: two would undo each other's rules. The next look finds it free.
      const isFree = holder === undefined || holder === place;
      await place.look(isFree ? sight : { kind: 'absent' });
    });
    await Promise.all([...leaving, ...looking]);
  }

  /** Who has which namespace, or is about to, or has not let it go yet. */
  #holders(): ReadonlyMap<string, NamespacePlace> {
    const places = [...this.#places.values(), ...this.#leaving];
    return new Map(
      places.flatMap((place) => (place.identity === undefined ? [] : [[place.identity, place]])),
    );
  }

  #lookLater(): void {
    if (this.#isStopped) return;
    // A namespace that takes long keeps nobody waiting but itself.
    this.#cancelLook = this.#options.clock.schedule(LOOK_EVERY_MS, () => {
      void this.#look();
      this.#lookLater();
    });
  }

  /** However much comes and goes, it is looked once. */
  #hear(): void {
    if (this.#isStopped) return;
    this.#cancelSoon ??= this.#options.clock.schedule(LOOK_SOON_MS, () => {
      this.#cancelSoon = undefined;
      void this.#look();
    });
  }

  #tellBeyond(): void {
    const { source, log } = this.#options;
    const beyond = Object.fromEntries(source.beyond);
    const labels = Object.keys(beyond).join(' ');
    if (labels !== this.#beyond && labels !== '') log.error('namespaces_too_many', { closed: beyond });
    this.#beyond = labels;
  }

  #placeOf(declared: DeclaredNamespace): NamespacePlace {
    const known = this.#places.get(declared.name);
    if (known !== undefined) return known;
    const place = new NamespacePlace(declared, { ...this.#options, turns: this.#turns });
    if (this.#isLetGo) void place.letGo();
    if (this.#listenIn !== undefined) void place.listen(this.#listenIn);
    this.#places.set(declared.name, place);
    return place;
  }

  async #forget(name: string): Promise<void> {
    const place = this.#places.get(name);
    if (place === undefined) return;
    this.#places.delete(name);
    this.#leaving.add(place);
    await place.leave();
    this.#leaving.delete(place);
  }
}
