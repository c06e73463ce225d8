import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'bun:test';
import { sampleRecord } from '../../agent/audit/spool-sample.ts';
import { Spool, type SpoolOptions } from '../../agent/audit/spool.ts';
import type { AuditBatch } from '../../shared/protocol/audit.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { readFramed } from './audit-batches.ts';

/** Spools in folders of a test's own. */
export class SpoolRig {
  /** What the spools logged since the last `closeAll`. */
  lines: string[] = [];
  readonly #root = mkdtempSync(join(tmpdir(), 'picket-spool-'));
  readonly #opened: Spool[] = [];
  #made = 0;

  /** A folder for a spool, which is not there yet. */
  fresh(): string {
    return join(this.#root, `spool-${this.#made++}`);
  }

  open(directory: string, options: Partial<SpoolOptions> = {}): Spool {
    const log = createLog({ level: 'debug', nowMs: Date.now, write: (line) => this.lines.push(line) });
    const base = { directory, maxBytes: 1 << 24, durability: 'sync', clock: systemClock, log } as const;
    const spool = new Spool({ ...base, ...options });
    this.#opened.push(spool);
    return spool;
  }

  async closeAll(): Promise<void> {
    this.lines = [];
    for (const spool of this.#opened.splice(0)) await spool.close();
  }

  remove(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }
}

/** Records `count` samples, each named by its number. */
export function fillSpool(spool: Spool, count: number): void {
  for (let index = 0; index < count; index++)
    if (!spool.record(sampleRecord(spool.status.lastSequence + 1))) throw new Error('refused');
}

/** Ships everything to nowhere, checking numbers, content and chain, and returns the batches. */
export async function drainSpool(
  spool: Spool,
  previous = Buffer.alloc(32),
  first = 1,
): Promise<AuditBatch[]> {
  const batches: AuditBatch[] = [];
  let hash = previous;
  let sequence = first;
  for (;;) {
    const framed = await spool.readBatch({ records: 40, bytes: 100_000 });
    if (framed === undefined) return batches;
    const batch = readFramed(framed);
    for (const item of batch.records) {
      hash = createHash('sha256').update(hash).update(item.record).digest();
      expect([item.sequence, item.hash]).toEqual([sequence, hash.toString('hex')]);
      expect(JSON.parse(item.record)).toEqual(sampleRecord(sequence));
      sequence++;
    }
    batches.push(batch);
    expect(spool.acknowledge(batch.epoch, sequence - 1)).toBe('known');
  }
}

/** Names of the segments of a spool, oldest first. */
export function segmentsIn(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith('.segment'))
    .sort();
}
