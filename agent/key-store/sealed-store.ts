/**
 * Small secrets that survive a restart: the agent's key and SVID, its bundles, entries, directory and last good policy.
 * Port: `memory.ts`, `sealed-disk.ts`. A value that was altered is refused, never returned.
 */
export interface SealedStore {
  /** The value, or undefined when there is none. Rejects with `failed_precondition`, reason `seal_broken`, when it was altered or belongs to another key. */
  read(name: string): Promise<Uint8Array | undefined>;
  /** Replaces the value; after a crash there is the old one or the new one, never a mixture. Rejects with `unavailable`, reason `state_not_written`, where the disk does not take it. */
  write(name: string, value: Uint8Array): Promise<void>;
  delete(name: string): Promise<void>;
}
