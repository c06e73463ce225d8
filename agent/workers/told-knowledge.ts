import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { applyChange, NOTHING_KNOWN, type Knowledge, type KnowledgeChange } from './knowledge.ts';

/** What a worker was told by its agent, for the parts of the data path to watch. */
export class ToldKnowledge {
  readonly quarantines = new WatchedValue<{
    readonly position: 'told' | undefined;
    readonly quarantines: Knowledge['quarantines'];
  }>({ position: undefined, quarantines: NOTHING_KNOWN.quarantines });
  readonly bundles = new WatchedValue(NOTHING_KNOWN.bundles);
  readonly directory = new WatchedValue(NOTHING_KNOWN.directory);
  readonly services = new WatchedValue(NOTHING_KNOWN.services);
  readonly places = new WatchedValue(NOTHING_KNOWN.places);
  readonly enforcement = new WatchedValue(NOTHING_KNOWN.enforcement);
  readonly entries = new WatchedValue(NOTHING_KNOWN.entries);
  readonly identities = new WatchedValue(NOTHING_KNOWN.identities);
  #known = NOTHING_KNOWN;

  get nodeId(): SpiffeId | undefined {
    return this.#known.nodeId;
  }

  /** Takes a change whole. Quarantine comes first: nothing of the same change is acted on before it. Throws as `applyChange`. */
  take(change: KnowledgeChange): void {
    const previous = this.#known;
    const next = applyChange(previous, change);
    this.#known = next;
    if (next.quarantines !== previous.quarantines || next.isTold !== previous.isTold)
      this.quarantines.set({
        position: next.isTold ? 'told' : undefined,
        quarantines: next.quarantines,
      });
    if (next.bundles !== previous.bundles) this.bundles.set(next.bundles);
    if (next.directory !== previous.directory) this.directory.set(next.directory);
    if (next.places !== previous.places) this.places.set(next.places);
    if (next.services !== previous.services) this.services.set(next.services);
    if (next.enforcement !== previous.enforcement) this.enforcement.set(next.enforcement);
    if (next.entries !== previous.entries) this.entries.set(next.entries);
    if (next.identities !== previous.identities) this.identities.set(next.identities);
  }
}
