import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { syncMessage, type SyncMessage } from '../../shared/protocol/sync.ts';
import { createLog } from '../../shared/runtime/log.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { DATASTORES, silentLog, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testAttestation, testEntry, testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { NodeAddresses } from '../agents/node-addresses.ts';
import { Nodes } from '../agents/nodes.ts';
import type { Datastore, Position } from '../datastore/datastore.ts';
import { policyActivations } from '../datastore/schema.ts';
import { Quarantines } from '../quarantine/quarantines.ts';
import { Registration } from '../registration/registration.ts';
import { pruneChangeLog, readChanges } from './change-reader.ts';
import { MAX_BACKLOG_CHANGES } from './mailbox.ts';
import { SyncSource } from './sync.ts';
import { storeTrustBundle } from './trust-bundles.ts';

/** An agent that applies what it hears. */
class Listener {
  readonly messages: SyncMessage[] = [];
  /** Kind and key to the value. */
  readonly state = new Map<string, unknown>();
  isEnded = false;
  position: Position = { epoch: '', sequence: -1 };
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;

  constructor(
    source: SyncSource,
    agentId: SpiffeId,
    how: { readonly resumeFrom?: Position; readonly instance?: string } = {},
  ) {
    const { signal } = this.#abort;
    const stream = source.stream({ agentId, signal, ...how });
    this.#done = this.#listen(stream);
  }

  async end(): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }

  /** Waits until it has everything up to `sequence`. */
  async reaches(sequence: number): Promise<void> {
    await waitUntil(`the stream reaches ${sequence}`, () => this.position.sequence >= sequence);
  }

  async #listen(stream: AsyncIterable<SyncMessage>): Promise<void> {
    for await (const message of stream) {
      // The wire's own schema: nothing may be sent that an agent refuses.
      this.#apply(syncMessage.parse(JSON.parse(JSON.stringify(message))));
      this.messages.push(message);
    }
    this.isEnded = true;
  }

  #apply(message: SyncMessage): void {
    if (message.kind === 'ping') return;
    this.position = { epoch: message.epoch, sequence: message.cursor };
    if (message.kind === 'snapshot') {
      this.state.clear();
      for (const item of message.items) this.state.set(`${item.kind} ${item.key}`, item.value);
      return;
    }
    for (const change of message.changes)
      if (change.op === 'delete') this.state.delete(`${change.kind} ${change.key}`);
      else this.state.set(`${change.item.kind} ${change.item.key}`, change.item.value);
  }
}

describe.each(DATASTORES)('SyncSource (%s)', (_name, open) => {
  let kept: TestDatastore;
  let datastore: Datastore;
  let registration: Registration;
  let nodes: Nodes;
  let source: SyncSource;
  const clock = new FakeClock();
  const lines: string[] = [];
  const [one, two] = [testAgentId('one'), testAgentId('two')];
  const listeners: Listener[] = [];
  const listen = (agentId: SpiffeId, resumeFrom?: Position): Listener => {
    const listener = new Listener(source, agentId, resumeFrom === undefined ? {} : { resumeFrom });
    listeners.push(listener);
    return listener;
  };
  const sequence = async () => (await datastore.position()).sequence;

  beforeAll(async () => {
    kept = await open();
    datastore = kept.datastore;
    nodes = new Nodes({ datastore, clock, log: silentLog });
    registration = new Registration({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
    const log = createLog({ level: 'info', nowMs: () => 0, write: (line) => lines.push(line) });
    source = new SyncSource({ datastore, clock, log, random: () => 0.5 });
    await source.start();
    for (const host of ['one', 'two']) await nodes.recordAttestation(testAttestation(host));
    await new NodeAddresses(datastore).confirm({ nodeId: two, address: '192.0.2.2' }, 'operator');
  });
  afterEach(async () => {
    await Promise.all(listeners.splice(0).map((listener) => listener.end()));
    expect(source.streamCount).toBe(0);
  });
  afterAll(async () => {
    await source.stop();
    await kept.dispose();
  });

  const keysOf = (listener: Listener): readonly string[] => [...listener.state.keys()].toSorted();

  test('an agent hears of everything that concerns it, and of nothing else', async () => {
    const first = listen(one);
    await first.reaches(await sequence());
    expect(first.messages[0]?.kind).toBe('snapshot');
    const mine = await registration.create(testEntry('one', '/mine'));
    const theirs = await registration.create(
      testEntry('two', '/theirs', { listeners: [{ port: 80, protocol: 'http' }] }),
    );
    const bundle = {
      trustDomain: TEST_TRUST_DOMAIN,
      sequence: 1,
      refreshHintSeconds: 60,
      x509Authorities: [Uint8Array.of(1)],
    };
    await storeTrustBundle(datastore, bundle);
    await activate('mesh', 1);
    await first.reaches(await sequence());
    const expected = [
      'bundle example.org',
      'directory default|192.0.2.2|80|spiffe://example.org/theirs',
      `entry ${mine.entryId}`,
      'policy mesh',
    ];
    expect(keysOf(first)).toEqual(expected);
    expect(JSON.stringify(first.messages)).not.toContain(theirs.entryId);
    // A new stream, which gets a snapshot, knows the same.
    const fresh = listen(one);
    await fresh.reaches(await sequence());
    expect(fresh.state).toEqual(first.state);
    await waitUntil('the earlier stream of the agent has ended', () => first.isEnded);
  });

  test('an agent that is replaced and its successor both hear; a third process ends the oldest stream, and the same process its own', async () => {
    const start = (instance: string): Listener => {
      const listener = new Listener(source, one, { instance });
      listeners.push(listener);
      return listener;
    };
    const [old, next] = [start('a'), start('b')];
    await registration.create(testEntry('one', '/heard-by-both'));
    await Promise.all([old.reaches(await sequence()), next.reaches(await sequence())]);
    expect([old.isEnded, next.isEnded, source.streamCount]).toEqual([false, false, 2]);
    const again = start('a');
    await waitUntil('its earlier stream has ended', () => old.isEnded);
    const third = start('c');
    await waitUntil('the oldest has ended', () => next.isEnded);
    await Promise.all([again.reaches(await sequence()), third.reaches(await sequence())]);
    expect([again.isEnded, third.isEnded, source.streamCount]).toEqual([false, false, 2]);
  });

  test('what changed many times is told once a batch, as it is now', async () => {
    const quarantines = new Quarantines({ datastore, clock });
    const from = await datastore.position();
    const key = { kind: 'workload', subject: testWorkloadId('/often') } as const;
    for (const reason of ['a', 'b', 'c']) await quarantines.add({ ...key, reason, createdBy: 'me' });
    const batch = await readChanges(datastore, from);
    expect(batch?.upTo).toBe(from.sequence + 3);
    expect(batch?.changes).toMatchObject([
      { sequence: from.sequence + 3, scope: null, change: { op: 'put', item: { value: { reason: 'c' } } } },
    ]);
    await quarantines.lift(key);
  });

  test('updates and removals arrive; an entry that changes its parent moves', async () => {
    const entry = await registration.create(testEntry('one', '/moving'));
    const [first, second] = [listen(one), listen(two)];
    await Promise.all([first.reaches(await sequence()), second.reaches(await sequence())]);
    await registration.update(entry.entryId, { wish: testEntry('two', '/moving'), revision: 0 });
    await second.reaches(await sequence());
    await first.reaches(await sequence());
    expect(first.state.has(`entry ${entry.entryId}`)).toBe(false);
    expect(second.state.get(`entry ${entry.entryId}`)).toMatchObject({ revision: 1 });
    await registration.delete(entry.entryId);
    await second.reaches(await sequence());
    expect(second.state.has(`entry ${entry.entryId}`)).toBe(false);
  });

  test('a stream resumes from its cursor with the missing changes alone', async () => {
    const first = listen(one);
    await first.reaches(await sequence());
    await first.end();
    const entry = await registration.create(testEntry('one', '/missed'));
    await registration.create(testEntry('two', '/not-mine'));
    const second = listen(one, first.position);
    await second.reaches(await sequence());
    expect(second.messages).toMatchObject([
      { kind: 'changes', changes: [{ op: 'put', item: { kind: 'entry', key: entry.entryId } }] },
    ]);
    await second.end();
    const third = listen(one, second.position);
    await waitUntil('the cursor was confirmed', () => third.messages.length > 0);
    expect(third.messages).toEqual([
      { kind: 'changes', epoch: second.position.epoch, cursor: second.position.sequence, changes: [] },
    ]);
  });

  test('a cursor of another epoch, ahead of the log or behind what is kept gets a snapshot', async () => {
    const { epoch, sequence: newest } = await datastore.position();
    const startOf = async (from: Position) => {
      const listener = listen(one, from);
      await waitUntil('something came', () => listener.messages.length > 0);
      await listener.end();
      return listener.messages[0]?.kind;
    };
    expect(await startOf({ epoch, sequence: newest })).toBe('changes');
    expect(await startOf({ epoch: 'other', sequence: newest })).toBe('snapshot');
    expect(await startOf({ epoch, sequence: newest + 1 })).toBe('snapshot');
    expect(await startOf({ epoch, sequence: 1 })).toBe('changes');
    expect(await pruneChangeLog(datastore, 3)).toBe(newest - 3);
    expect(await startOf({ epoch, sequence: 1 })).toBe('snapshot');
    expect(await startOf({ epoch, sequence: newest - 3 })).toBe('changes');
  });

  test('a silent stream is kept alive by a ping, and tells a cursor that others moved', async () => {
    const listener = listen(one);
    await listener.reaches(await sequence());
    await waitUntil('the stream waits', () => clock.pending >= 2);
    clock.advance(10_000);
    await waitUntil('a ping came', () => listener.messages.length === 2);
    expect(listener.messages[1]).toEqual({ kind: 'ping' });
    const other = listen(two);
    await other.reaches(await sequence());
    const entry = await registration.create(testEntry('two', '/elsewhere'));
    await waitUntil('the other agent heard', () => other.state.has(`entry ${entry.entryId}`));
    expect(listener.messages).toHaveLength(2);
    await waitUntil('time reaches the stream', () => {
      clock.advance(1000);
      return listener.messages.length === 3;
    });
    expect(listener.messages[2]).toMatchObject({ kind: 'changes', cursor: await sequence(), changes: [] });
  });

  test('a banned node’s stream ends, and no other begins', async () => {
    const listener = listen(two);
    await listener.reaches(await sequence());
    await nodes.setBanned(two, true);
    await waitUntil('the stream has ended', () => listener.isEnded);
    const again = listen(two);
    await waitUntil('the stream has ended', () => again.isEnded);
    expect(again.messages).toEqual([]);
    await nodes.setBanned(two, false);
    const lifted = listen(two);
    await lifted.reaches(await sequence());
    await nodes.evict(two);
    await waitUntil('the stream has ended', () => lifted.isEnded);
    await nodes.recordAttestation(testAttestation('two', { declaredAddresses: ['192.0.2.2'] }));
  });

  test('a new epoch gives running streams a snapshot', async () => {
    const listener = listen(one);
    await listener.reaches(await sequence());
    const epoch = await datastore.beginEpoch();
    await waitUntil('a snapshot of the new epoch came', () => listener.position.epoch === epoch);
    expect(listener.messages.at(-1)?.kind).toBe('snapshot');
    const entry = await registration.create(testEntry('one', '/after-epoch'));
    await waitUntil('the stream goes on', () => listener.state.has(`entry ${entry.entryId}`));
  });

  test('a reader that is too slow gets a snapshot in place of its backlog', async () => {
    const stream = source.stream({ agentId: one, signal: new AbortController().signal });
    expect((await stream.next()).value).toMatchObject({ kind: 'snapshot' });
    // The reader does not come back while more than the backlog is committed.
    const entry = await registration.create(testEntry('one', '/backlog'));
    for (let written = 0; written <= MAX_BACKLOG_CHANGES; written += 2000)
      await datastore.write(async ({ changed }) => {
        for (let i = 0; i < 2000; i += 1)
          changed({ kind: 'directory', key: `default|192.0.2.9|${written + i}|x` });
      });
    const newest = await sequence();
    await waitUntil('the feed has read it all', async () => {
      const other = listen(two, await datastore.position());
      await other.reaches(newest);
      await other.end();
      return clock.pending >= 1;
    });
    const message = await waitForSnapshot(stream);
    expect(message).toMatchObject({ kind: 'snapshot', cursor: newest });
    expect(JSON.stringify(message)).toContain(entry.entryId);
    expect(lines.some((line) => line.includes('sync_stream_restarted') && line.includes('overflow'))).toBe(
      true,
    );
    await stream.return();
  });

  test('many concurrent writers leave an agent with exactly what is registered', async () => {
    const listener = listen(one);
    await listener.reaches(await sequence());
    await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        const entry = await registration.create(testEntry('one', `/many-${i}`));
        if (i % 3 === 0) await registration.delete(entry.entryId);
        if (i % 3 === 1)
          await registration.update(entry.entryId, { wish: { ...entry, hint: 'changed' }, revision: 0 });
      }),
    );
    await listener.reaches(await sequence());
    const { entries } = await registration.list({ parentId: one, limit: 1000 });
    const heard = [...listener.state].filter(([key]) => key.startsWith('entry '));
    expect(new Map(heard)).toEqual(new Map(entries.map((entry) => [`entry ${entry.entryId}`, entry])));
  });

  test('the policy of administration is never sent', async () => {
    const listener = listen(one);
    await listener.reaches(await sequence());
    const before = listener.messages.length;
    await activate('admin', 1);
    await activate('mesh', 2);
    await listener.reaches(await sequence());
    const later = JSON.stringify(listener.messages.slice(before));
    expect(later).toContain('mesh 2');
    expect(later).not.toContain('admin');
  });

  /** A statement as policy administration would leave it; only its way to the agents matters here. */
  const activate = (target: 'mesh' | 'admin', number: number) =>
    datastore.write(async ({ db, changed }) => {
      const signed = { statement: `${target} ${number}`, signature: 'AA==', chain: ['AA=='] };
      await db
        .insert(policyActivations)
        .values({ target, sequence: number, version: number, signed, activatedBy: 'me' });
      changed({ kind: 'policy', key: target });
    });
});

async function waitForSnapshot(
  stream: AsyncGenerator<SyncMessage, void, void>,
): Promise<SyncMessage | undefined> {
  for (let looks = 0; looks < 10; looks += 1) {
    const { value } = await stream.next();
    if (value?.kind === 'snapshot') return value;
  }
  return undefined;
}
