import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import type { SyncState } from './sync-state.ts';

/** The parts of what a server told that are followed each by itself. */
export type Known = Pick<
  SyncState,
  'bundles' | 'directory' | 'places' | 'services' | 'enforcement' | 'entries'
>;

/** What the server told, in parts: whoever follows one is told of it only when it changes. Set by their owner alone, through `take`. */
export class KnownParts {
  readonly bundles: WatchedValue<Known['bundles']>;
  readonly directory: WatchedValue<Known['directory']>;
  readonly places: WatchedValue<Known['places']>;
  readonly services: WatchedValue<Known['services']>;
  readonly enforcement: WatchedValue<Known['enforcement']>;
  readonly entries: WatchedValue<Known['entries']>;

  constructor(initial: Known) {
    this.bundles = new WatchedValue(initial.bundles);
    this.directory = new WatchedValue(initial.directory);
    this.places = new WatchedValue(initial.places);
    this.services = new WatchedValue(initial.services);
    this.enforcement = new WatchedValue(initial.enforcement);
    this.entries = new WatchedValue(initial.entries);
  }

  /** Takes the place of what was known. Members of the directory are told of before the services that lead to them, entries last. */
  take(next: Known): void {
    setIfChanged(this.bundles, next.bundles);
    setIfChanged(this.directory, next.directory);
    setIfChanged(this.places, next.places);
    setIfChanged(this.services, next.services);
    setIfChanged(this.enforcement, next.enforcement);
    setIfChanged(this.entries, next.entries);
  }
}

/** A part keeps its reference as long as nothing in it changes. */
function setIfChanged<T>(part: WatchedValue<T>, next: T): void {
  if (next !== part.current) part.set(next);
}
