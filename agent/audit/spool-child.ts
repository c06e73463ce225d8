import { systemClock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { Spool } from './spool.ts';
import { sampleRecord } from './spool-sample.ts';

/** The process that the crash test kills: it records as fast as it can and says which records it was told are kept. */
const log = createLog({ level: 'error', nowMs: Date.now, write: (line) => console.error(line) });
const spool = new Spool({
  directory: process.argv[2] ?? '',
  maxBytes: 1 << 30,
  segmentBytes: 16_384,
  durability: 'group',
  groupMs: 5,
  clock: systemClock,
  log,
});

async function run(): Promise<void> {
  for (;;) {
    const first = spool.status.lastSequence + 1;
    for (let index = 0; index < 50; index++) if (!spool.record(sampleRecord(first + index))) return;
    await Bun.write(Bun.stdout, `${spool.status.lastSequence}\n`);
  }
}

await run();
