import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { KnownParts } from '../server-link/known-parts.ts';
import { applyChange, NOTHING_KNOWN, type Knowledge, type KnowledgeChange } from './knowledge.ts';

/** What a worker was told by its agent, for the parts of the data path to watch. */
export class ToldKnowledge {
  readonly quarantines = new WatchedValue<{
    readonly position: 'told' | undefined;
    readonly quarantines: Knowledge['quarantines'];
  }>({ position: undefined, quarantines: NOTHING_KNOWN.quarantines });
  readonly known = new KnownParts(NOTHING_KNOWN);
  readonly identities = new WatchedValue(NOTHING_KNOWN.identities);
  #all = NOTHING_KNOWN;

  get nodeId(): SpiffeId | undefined {
    return this.#all.nodeId;
  }

  /** Takes a change whole. Quarantine comes first: nothing of the same change is acted on before it. Throws as `applyChange`. */
  take(change: KnowledgeChange): void {
    const previous = this.#all;
    const next = applyChange(previous, change);
    this.#all = next;
    if (next.quarantines !== previous.quarantines || next.isTold !== previous.isTold)
      this.quarantines.set({
        position: next.isTold ? 'told' : undefined,
        quarantines: next.quarantines,
      });
    this.known.take(next);
    if (next.identities !== previous.identities) this.identities.set(next.identities);
  }
}
