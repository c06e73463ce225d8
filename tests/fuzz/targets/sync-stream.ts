import { readLines } from '../../../agent/server-link/read-lines.ts';
import {
  applySyncUpdate,
  EMPTY_SYNC_STATE,
  toSnapshot,
  type SyncState,
} from '../../../agent/server-link/sync-state.ts';
import { PicketError } from '../../../shared/errors/errors.ts';
import { syncMessage, type SyncMessage } from '../../../shared/protocol/sync.ts';
import { parseTrustDomain } from '../../../shared/spiffe/trust-domain.ts';
import { JSON_WORDS } from '../json-words.ts';
import { SEEDS } from '../seeds.ts';
import { outcomeOfRefusal, piecesOf, requireSame, words, type FuzzTarget } from '../target.ts';

const DOMAIN = parseTrustDomain('example.org');
const ENTRY_ID = '0190a000-0000-7000-8000-000000000001';
const ENTRY = {
  entryId: ENTRY_ID,
  spiffeId: 'spiffe://example.org/web',
  parentId: 'spiffe://example.org/picket/agent/tpm/a',
  selectors: ['unix:uid:1000'],
  revision: 1,
  createdAt: '2026-11-24T10:00:00.000Z',
};
const RECORD = {
  network: 'default',
  address: '10.0.0.5',
  port: 80,
  spiffeId: 'spiffe://example.org/web',
  protocol: 'auto',
};
const QUARANTINE = {
  kind: 'node',
  subject: 'spiffe://example.org/picket/agent/tpm/a',
  reason: 'because',
  addresses: ['10.0.0.5'],
  serials: ['0a'],
};
const ENFORCEMENT = { scope: 'spiffe://example.org/shop/*', mode: 'audit' };
const SERVICE = {
  name: 'web',
  spiffeId: 'spiffe://example.org/web',
  port: 80,
  addresses: [{ address: '10.96.0.10', port: 80 }],
};
const PLACE = { nodeId: QUARANTINE.subject, locality: 'eu/a', addresses: ['10.0.0.5'] };
const ITEMS = [
  { kind: 'bundle', key: 'example.org', value: SEEDS.bundle },
  { kind: 'entry', key: ENTRY_ID, value: ENTRY },
  { kind: 'directory', key: 'default|10.0.0.5|80|spiffe://example.org/web', value: RECORD },
  { kind: 'policy', key: 'mesh', value: SEEDS.signedPolicy },
  { kind: 'quarantine', key: 'node spiffe://example.org/picket/agent/tpm/a', value: QUARANTINE },
  { kind: 'enforcement', key: ENFORCEMENT.scope, value: ENFORCEMENT },
  { kind: 'service', key: SERVICE.name, value: SERVICE },
  { kind: 'place', key: PLACE.nodeId, value: PLACE },
];
const SNAPSHOT = JSON.stringify({ kind: 'snapshot', epoch: 'e', cursor: 4, items: ITEMS });
const CHANGES = JSON.stringify({
  kind: 'changes',
  epoch: 'e',
  cursor: 5,
  changes: [
    { op: 'delete', kind: 'entry', key: ENTRY_ID },
    { op: 'put', item: ITEMS[2] },
    { op: 'delete', kind: 'policy', key: 'mesh' },
    { op: 'delete', kind: 'enforcement', key: ENFORCEMENT.scope },
    { op: 'delete', kind: 'service', key: SERVICE.name },
    { op: 'delete', kind: 'place', key: PLACE.nodeId },
    { op: 'delete', kind: 'quarantine', key: 'node spiffe://example.org/picket/agent/tpm/a' },
  ],
});

/** The stream of changes: the same lines however they are cut, and a state that its own snapshot brings back. */
export const target: FuzzTarget = {
  seeds: words(`${SNAPSHOT}\n{"kind":"ping"}\n${CHANGES}\n`, `${SNAPSHOT}\n`, `{"kind":"ping"}\n`),
  dictionary: [
    ...JSON_WORDS,
    ...words(
      '"op":"delete"',
      '"kind":"bundle"',
      '"key":"mesh"',
      '127.0.0.1',
      '::ffff:10.0.0.5',
      'fe80::1',
      '"cursor":0',
      `${CHANGES}\n`,
      `${SNAPSHOT}\n`,
    ),
  ],
  maxBytes: 16_384,
  async check(input) {
    const lines = await linesOf([input]);
    requireSame(await linesOf(piecesOf(input)), lines, 'the lines of what comes in pieces');
    const ways: string[] = [];
    let state = EMPTY_SYNC_STATE;
    for (const line of lines.slice(0, 8)) {
      const step = take(state, line);
      state = step.state;
      ways.push(step.way);
    }
    if (state.position !== undefined) requireSameAfterRestart(state);
    return ways.join(' ');
  },
};

async function linesOf(chunks: readonly Uint8Array[]): Promise<readonly string[]> {
  async function* stream(): AsyncGenerator<Uint8Array> {
    yield* chunks;
  }
  return await Array.fromAsync(readLines(stream(), 1 << 20));
}

function take(state: SyncState, line: string): { readonly state: SyncState; readonly way: string } {
  const message = readMessage(line);
  if (typeof message === 'string') return { state, way: message };
  if (message.kind === 'ping') return { state, way: 'ping' };
  try {
    const next = applySyncUpdate(state, message, DOMAIN);
    return {
      state: next,
      way: `${message.kind} ${next.entries.size} ${next.directory.size} ${next.bundles.size} ${next.quarantines.size} ${next.enforcement.size}`,
    };
  } catch (error) {
    if (!(error instanceof PicketError)) throw error;
    return { state, way: outcomeOfRefusal(error) };
  }
}

/** What the stream refuses whole is told by its first issue. */
function readMessage(line: string): SyncMessage | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return 'no JSON';
  }
  const parsed = syncMessage.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  return `${issue?.code} ${issue?.path
    .filter((part) => typeof part === 'string')
    .join('.')
    .slice(0, 60)}`;
}

function requireSameAfterRestart(state: SyncState): void {
  const message = readMessage(JSON.stringify(toSnapshot(state)));
  if (typeof message === 'string' || message.kind === 'ping')
    throw new TypeError(`the own snapshot is refused: ${JSON.stringify(message)}`);
  requireSame(applySyncUpdate(EMPTY_SYNC_STATE, message, DOMAIN), state, 'the state after a restart');
}
